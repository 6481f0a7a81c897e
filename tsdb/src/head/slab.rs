//! Memory for many small things: paged vectors, byte buffers by size class, lists of ids, chunk lists.
//!
//! Nothing here moves when it grows, so growth costs a page and never a copy of everything. Handles are `u32`.

use std::ops::{Index, IndexMut};

/// A vector in pages of 1024, so that growing neither copies nor doubles.
#[derive(Debug)]
pub(super) struct Paged<T> {
    pages: Vec<Vec<T>>,
}

const PAGED_LEN: usize = 1024;

impl<T> Default for Paged<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Paged<T> {
    pub(super) fn len(&self) -> u32 {
        let len = match self.pages.split_last() {
            Some((last, full)) => full.len() * PAGED_LEN + last.len(),
            None => 0,
        };
        u32::try_from(len).expect("ids are u32 and handed out one by one")
    }

    pub(super) fn push(&mut self, item: T) -> u32 {
        let id = self.len();
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGED_LEN => page.push(item),
            _ => {
                let mut page = Vec::with_capacity(PAGED_LEN);
                page.push(item);
                self.pages.push(page);
            }
        }
        id
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten()
    }

    pub(super) fn bytes(&self) -> u64 {
        let items: usize = self.pages.iter().map(|page| page.capacity() * size_of::<T>()).sum();
        (items + self.pages.capacity() * size_of::<Vec<T>>()) as u64
    }

    pub(super) fn into_items(self) -> impl Iterator<Item = T> {
        self.pages.into_iter().flatten()
    }
}

impl<T> Index<u32> for Paged<T> {
    type Output = T;

    #[inline]
    fn index(&self, id: u32) -> &T {
        &self.pages[id as usize / PAGED_LEN][id as usize % PAGED_LEN]
    }
}

impl<T> IndexMut<u32> for Paged<T> {
    #[inline]
    fn index_mut(&mut self, id: u32) -> &mut T {
        &mut self.pages[id as usize / PAGED_LEN][id as usize % PAGED_LEN]
    }
}

/// Stands for no buffer, no page, no node.
pub(super) const NONE: u32 = u32::MAX;

/// Sizes of buffers; fine steps, because the average waste is half a step. The last one holds the largest chunk.
const CLASSES: [u16; 18] =
    [24, 32, 48, 64, 80, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1056];

/// Small enough that a page empties as a whole when the series of a target grow out of it together.
const PAGE_BYTES: usize = 16 << 10;

const SLOT_BITS: u32 = 10;

/// Buffers of the size classes in pages of one class each; an empty page serves any class again.
///
/// The free slots of a page are a list through the slots themselves.
#[derive(Debug, Default)]
pub(super) struct Slab {
    pages: Vec<Page>,
    /// Pages of the class that have free slots; the last one is served first.
    open: [Vec<u32>; CLASSES.len()],
    empty: Vec<u32>,
    /// Empty pages whose memory was given back.
    vacated: Vec<u32>,
}

#[derive(Debug)]
struct Page {
    bytes: Box<[u8]>,
    class: u8,
    /// The first free slot of those once used.
    free: u16,
    /// Slots never used so far start here.
    fresh: u16,
    live: u16,
}

const NO_SLOT: u16 = u16::MAX;

impl Slab {
    fn class_of(len: usize) -> usize {
        let class = CLASSES.partition_point(|&size| usize::from(size) < len);
        assert!(class < CLASSES.len(), "BUG: buffer of {len} bytes");
        class
    }

    /// A buffer of at least `len` bytes; what it holds is left over.
    pub(super) fn alloc(&mut self, len: usize) -> u32 {
        let class = Self::class_of(len);
        let size = usize::from(CLASSES[class]);
        let page_idx = match self.open[class].last() {
            Some(&page_idx) => page_idx,
            None => self.open_page(class),
        };
        let n_slots = u16::try_from(PAGE_BYTES / size).expect("fewer than 1024 slots");
        let page = &mut self.pages[page_idx as usize];
        let slot = if page.free == NO_SLOT {
            page.fresh += 1;
            page.fresh - 1
        } else {
            let slot = page.free;
            let at = usize::from(slot) * size;
            page.free = u16::from_le_bytes([page.bytes[at], page.bytes[at + 1]]);
            slot
        };
        page.live += 1;
        if page.live == n_slots {
            self.open[class].pop();
        }
        (page_idx << SLOT_BITS) | u32::from(slot)
    }

    fn open_page(&mut self, class: usize) -> u32 {
        let class_byte = u8::try_from(class).expect("few classes");
        let page_idx = if let Some(page_idx) = self.empty.pop() {
            let page = &mut self.pages[page_idx as usize];
            (page.class, page.free, page.fresh, page.live) = (class_byte, NO_SLOT, 0, 0);
            page_idx
        } else {
            let bytes = vec![0; PAGE_BYTES].into_boxed_slice();
            let page = Page { bytes, class: class_byte, free: NO_SLOT, fresh: 0, live: 0 };
            if let Some(page_idx) = self.vacated.pop() {
                self.pages[page_idx as usize] = page;
                page_idx
            } else {
                self.pages.push(page);
                u32::try_from(self.pages.len() - 1).expect("fewer than 2^22 pages")
            }
        };
        assert!(page_idx < 1 << (32 - SLOT_BITS), "BUG: slab of more than 64 GiB");
        self.open[class].push(page_idx);
        page_idx
    }

    pub(super) fn free(&mut self, handle: u32) {
        let (page_idx, slot) = (handle >> SLOT_BITS, handle & ((1 << SLOT_BITS) - 1));
        let page = &mut self.pages[page_idx as usize];
        let class = usize::from(page.class);
        let size = usize::from(CLASSES[class]);
        let was_full = usize::from(page.live) == PAGE_BYTES / size;
        let at = slot as usize * size;
        page.bytes[at..at + 2].copy_from_slice(&page.free.to_le_bytes());
        page.free = u16::try_from(slot).expect("ten bits");
        page.live -= 1;
        let is_empty = page.live == 0;
        if was_full {
            self.open[class].push(page_idx);
        }
        if is_empty {
            // The list of a class is short: a page is on it only while partly used.
            self.open[class].retain(|&open| open != page_idx);
            // The series of many targets fill their chunks in step, so pages empty in waves; an eighth is kept
            // for the next one to come.
            if self.empty.len() * 8 < self.pages.len() - self.vacated.len() {
                self.empty.push(page_idx);
            } else {
                self.pages[page_idx as usize].bytes = Box::default();
                self.vacated.push(page_idx);
            }
        }
    }

    /// The size of a buffer, without touching it.
    #[inline]
    pub(super) fn capacity(&self, handle: u32) -> usize {
        usize::from(CLASSES[usize::from(self.pages[(handle >> SLOT_BITS) as usize].class)])
    }

    #[inline]
    pub(super) fn get(&self, handle: u32) -> &[u8] {
        let page = &self.pages[(handle >> SLOT_BITS) as usize];
        let size = usize::from(CLASSES[usize::from(page.class)]);
        let at = (handle & ((1 << SLOT_BITS) - 1)) as usize * size;
        &page.bytes[at..at + size]
    }

    #[inline]
    pub(super) fn get_mut(&mut self, handle: u32) -> &mut [u8] {
        let page = &mut self.pages[(handle >> SLOT_BITS) as usize];
        let size = usize::from(CLASSES[usize::from(page.class)]);
        let at = (handle & ((1 << SLOT_BITS) - 1)) as usize * size;
        &mut page.bytes[at..at + size]
    }

    pub(super) fn bytes(&self) -> u64 {
        let pages: usize = self.pages.iter().map(|page| page.bytes.len()).sum();
        (pages + self.pages.capacity() * size_of::<Page>()) as u64
    }

    /// Moves the first `used` bytes of a buffer to one of at least `len`.
    pub(super) fn grow(&mut self, old: u32, used: usize, len: usize) -> u32 {
        let mut bytes = [0; 1056];
        bytes[..used].copy_from_slice(&self.get(old)[..used]);
        self.free(old);
        let new = self.alloc(len);
        self.get_mut(new)[..used].copy_from_slice(&bytes[..used]);
        new
    }
}

/// Lists of ids, each in one piece, freed ones reused by length.
#[derive(Debug, Default)]
pub(super) struct IdLists {
    pages: Vec<Box<[u32]>>,
    /// The first unused id of the last page.
    used: usize,
    free: Vec<Vec<u32>>,
}

/// Ids per page; the longest list there can be.
pub(super) const ID_LIST_MAX: usize = 4096;

impl IdLists {
    pub(super) fn alloc(&mut self, ids: &[u32]) -> u32 {
        assert!(ids.len() <= ID_LIST_MAX, "BUG: list of {} ids", ids.len());
        let handle = if let Some(handle) = self.free.get_mut(ids.len()).and_then(Vec::pop) {
            handle
        } else {
            {
                if self.pages.is_empty() || self.used + ids.len() > ID_LIST_MAX {
                    self.pages.push(vec![0; ID_LIST_MAX].into_boxed_slice());
                    self.used = 0;
                }
                let at = (self.pages.len() - 1) * ID_LIST_MAX + self.used;
                self.used += ids.len();
                u32::try_from(at).expect("fewer than 2^32 label references")
            }
        };
        self.get_mut(handle, ids.len()).copy_from_slice(ids);
        handle
    }

    pub(super) fn free(&mut self, handle: u32, len: usize) {
        if self.free.len() <= len {
            self.free.resize_with(len + 1, Vec::new);
        }
        self.free[len].push(handle);
    }

    pub(super) fn bytes(&self) -> u64 {
        let free: usize = self.free.iter().map(|list| list.capacity() * 4 + size_of_val(list)).sum();
        (self.pages.len() * ID_LIST_MAX * 4 + free) as u64
    }

    #[inline]
    pub(super) fn get(&self, handle: u32, len: usize) -> &[u32] {
        let at = handle as usize % ID_LIST_MAX;
        &self.pages[handle as usize / ID_LIST_MAX][at..at + len]
    }

    pub(super) fn get_mut(&mut self, handle: u32, len: usize) -> &mut [u32] {
        let at = handle as usize % ID_LIST_MAX;
        &mut self.pages[handle as usize / ID_LIST_MAX][at..at + len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_keep_their_bytes_while_others_come_and_go() {
        let mut slab = Slab::default();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut live: Vec<(u32, u8, usize)> = Vec::new();
        for round in 0..20_000_u32 {
            if live.len() > 500 || (!live.is_empty() && rng.bool()) {
                let (handle, fill, len) = live.swap_remove(rng.usize(..live.len()));
                assert!(slab.get(handle)[..len].iter().all(|&b| b == fill));
                slab.free(handle);
            } else {
                let (len, fill) = (rng.usize(1..=1056), round.to_le_bytes()[0]);
                let handle = slab.alloc(len);
                slab.get_mut(handle)[..len].fill(fill);
                live.push((handle, fill, len));
            }
        }
        live.drain(..).for_each(|(handle, ..)| slab.free(handle));
        assert_eq!(slab.empty.len() + slab.vacated.len(), slab.pages.len());
        assert!(slab.empty.len() <= 8, "{} empty pages kept", slab.empty.len());
        assert!(slab.pages.len() < 60, "{} pages for at most 500 kB", slab.pages.len());
    }

    #[test]
    fn id_lists_are_reused_by_length() {
        let mut lists = IdLists::default();
        let a = lists.alloc(&[1, 2, 3]);
        let b = lists.alloc(&[4, 5, 6]);
        lists.free(a, 3);
        assert_eq!(lists.alloc(&[7, 8, 9]), a);
        assert_eq!((lists.get(a, 3), lists.get(b, 3)), (&[7, 8, 9][..], &[4, 5, 6][..]));
        for _ in 0..2000 {
            lists.alloc(&[0; 7]);
        }
        assert_eq!(lists.get(b, 3), [4, 5, 6]);
    }
}
