//! A sort that leaves equal elements in the order in which Go's leaves them: users see it in `sort` and `topk`.
//!
//! Pattern-defeating quicksort after Orson Peters (arXiv 2106.05123) with Go's parameters. Not stable, but the same
//! input always gives the same order; where order among equals does not show, `slice::sort_by` is the better choice.
//!
//! Compat: Go `sort.Sort`.

/// Up to so many elements are sorted by insertion.
const INSERTION_MAX: usize = 12;

/// From so many on the pivot is a median of medians.
const NINTHER_MIN: usize = 50;

/// A slice that looks sorted gets so many repairs before it is partitioned after all...
const REPAIRS_MAX: usize = 5;

/// ...unless it is shorter than this, where repairs do not pay.
const REPAIRED_MIN: usize = 50;

/// Exchanges among the candidates for a pivot if every pair of them is in the wrong order.
const EXCHANGES_MAX: usize = 12;

/// Sorts by `less`, which need not be a strict order: NaN may be less than everything, itself included.
pub(crate) fn sort<T: Copy>(v: &mut [T], less: &impl Fn(T, T) -> bool) {
    let limit = usize::BITS - v.len().leading_zeros();
    quicksort(v, (0, v.len()), less, limit);
}

/// What the candidates for a pivot tell of the slice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pattern {
    Increasing,
    Decreasing,
    Unknown,
}

/// Sorts `v[from..to]`, in which nothing is less than what stands before it. After `limit` bad pivots a heap sorts.
fn quicksort<T: Copy>(
    v: &mut [T],
    (mut from, mut to): (usize, usize),
    less: &impl Fn(T, T) -> bool,
    mut limit: u32,
) {
    let (mut was_balanced, mut was_partitioned) = (true, true);
    loop {
        let len = to - from;
        let part = &mut v[from..to];
        if len <= INSERTION_MAX {
            return insertion(part, less);
        }
        if limit == 0 {
            return heap(part, less);
        }
        if !was_balanced {
            scatter(part);
            limit -= 1;
        }
        let (mut pivot, mut pattern) = choose_pivot(part, less);
        if pattern == Pattern::Decreasing {
            part.reverse();
            pivot = len - 1 - pivot;
            pattern = Pattern::Increasing;
        }
        if was_balanced && was_partitioned && pattern == Pattern::Increasing && repair(v, from, to, less) {
            return;
        }
        if from > 0 && !less(v[from - 1], v[from + pivot]) {
            // The pivot is the least there is: what equals it has found its place.
            from += split_equal(&mut v[from..to], pivot, less);
            continue;
        }
        let middle;
        (middle, was_partitioned) = partition(&mut v[from..to], pivot, less);
        was_balanced = middle.min(len - middle) >= len / 8;
        if middle < len - middle {
            quicksort(v, (from, from + middle), less, limit);
            from += middle + 1;
        } else {
            quicksort(v, (from + middle + 1, to), less, limit);
            to = from + middle;
        }
    }
}

fn insertion<T: Copy>(v: &mut [T], less: &impl Fn(T, T) -> bool) {
    for i in 1..v.len() {
        shift_left(&mut v[..=i], less);
    }
}

/// Moves the last element to the left until the one before it is not greater.
fn shift_left<T: Copy>(v: &mut [T], less: &impl Fn(T, T) -> bool) {
    for at in (1..v.len()).rev() {
        if !less(v[at], v[at - 1]) {
            break;
        }
        v.swap(at, at - 1);
    }
}

/// Moves the first element to the right until the one behind it is not less.
fn shift_right<T: Copy>(v: &mut [T], less: &impl Fn(T, T) -> bool) {
    for at in 1..v.len() {
        if !less(v[at], v[at - 1]) {
            break;
        }
        v.swap(at, at - 1);
    }
}

/// Puts a few neighbours of `v[from..to]` into order; `true` if all are then. What moves to the left may leave the part,
/// which takes a NaN.
fn repair<T: Copy>(v: &mut [T], from: usize, to: usize, less: &impl Fn(T, T) -> bool) -> bool {
    let mut at = from + 1;
    for _ in 0..REPAIRS_MAX {
        while at < to && !less(v[at], v[at - 1]) {
            at += 1;
        }
        if at == to {
            return true;
        }
        if to - from < REPAIRED_MIN {
            return false;
        }
        v.swap(at, at - 1);
        if at - from >= 2 {
            shift_left(&mut v[..at], less);
        }
        if to - at >= 2 {
            shift_right(&mut v[at..to], less);
        }
    }
    false
}

/// Exchanges three elements about the middle with others, which breaks what made the last pivots bad.
fn scatter<T: Copy>(v: &mut [T]) {
    let len = v.len();
    let mut random = len as u64;
    let mask = (1_u64 << (usize::BITS - len.leading_zeros())) - 1;
    let middle = len / 4 * 2;
    for at in middle - 1..=middle + 1 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let other = usize::try_from(random & mask).expect("less than twice the length");
        v.swap(at, if other >= len { other - len } else { other });
    }
}

/// The place of a pivot.
fn choose_pivot<T: Copy>(v: &[T], less: &impl Fn(T, T) -> bool) -> (usize, Pattern) {
    let mut exchanges = 0;
    let mut median = |mut a: usize, mut b: usize, mut c: usize| {
        let mut in_order = |x: &mut usize, y: &mut usize| {
            if less(v[*y], v[*x]) {
                std::mem::swap(x, y);
                exchanges += 1;
            }
        };
        in_order(&mut a, &mut b);
        in_order(&mut b, &mut c);
        in_order(&mut a, &mut b);
        b
    };
    let quarter = v.len() / 4;
    let mut candidates = [quarter, quarter * 2, quarter * 3];
    if v.len() >= NINTHER_MIN {
        candidates = candidates.map(|at| median(at - 1, at, at + 1));
    }
    let pivot = median(candidates[0], candidates[1], candidates[2]);
    let pattern = match exchanges {
        0 => Pattern::Increasing,
        EXCHANGES_MAX => Pattern::Decreasing,
        _ => Pattern::Unknown,
    };
    (pivot, pattern)
}

/// Puts what is less than the pivot before it and the rest behind it. Returns the pivot's place, and whether nothing
/// had to move.
fn partition<T: Copy>(v: &mut [T], pivot: usize, less: &impl Fn(T, T) -> bool) -> (usize, bool) {
    v.swap(0, pivot);
    let pivot = v[0];
    let (mut from, mut to) = (1, v.len());
    let mut moved = false;
    loop {
        while from < to && less(v[from], pivot) {
            from += 1;
        }
        while from < to && !less(v[to - 1], pivot) {
            to -= 1;
        }
        if from >= to {
            break;
        }
        v.swap(from, to - 1);
        moved = true;
        from += 1;
        to -= 1;
    }
    v.swap(0, to - 1);
    (to - 1, !moved)
}

/// Puts what equals the pivot in front, given that nothing is less. Returns how many they are.
fn split_equal<T: Copy>(v: &mut [T], pivot: usize, less: &impl Fn(T, T) -> bool) -> usize {
    v.swap(0, pivot);
    let pivot = v[0];
    let (mut from, mut to) = (1, v.len());
    loop {
        while from < to && !less(pivot, v[from]) {
            from += 1;
        }
        while from < to && less(pivot, v[to - 1]) {
            to -= 1;
        }
        if from >= to {
            return from;
        }
        v.swap(from, to - 1);
        from += 1;
        to -= 1;
    }
}

fn heap<T: Copy>(v: &mut [T], less: &impl Fn(T, T) -> bool) {
    for root in (0..v.len().div_ceil(2)).rev() {
        sift_down(v, root, less);
    }
    for end in (0..v.len()).rev() {
        v.swap(0, end);
        sift_down(&mut v[..end], 0, less);
    }
}

fn sift_down<T: Copy>(v: &mut [T], mut root: usize, less: &impl Fn(T, T) -> bool) {
    loop {
        let mut child = 2 * root + 1;
        if child >= v.len() {
            return;
        }
        if child + 1 < v.len() && less(v[child], v[child + 1]) {
            child += 1;
        }
        if !less(v[root], v[child]) {
            return;
        }
        v.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests;
