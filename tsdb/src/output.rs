//! A file that is written from front to back, through a buffer, with a running checksum on request.
//!
//! Unlike `std::io::BufWriter` it knows its position and its path, and a drop writes nothing.

use std::path::Path;

use crate::Result;
use crate::fs::File;

/// Large enough that a system call costs nothing per byte.
const BUFFER_BYTES: usize = 1 << 18;

/// An append-only file under construction.
#[derive(Debug)]
pub(crate) struct Output {
    file: File,
    buffer: Vec<u8>,
    written: u64,
    crc: u32,
}

impl Output {
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path)?;
        Ok(Self { file, buffer: Vec::with_capacity(BUFFER_BYTES), written: 0, crc: 0 })
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Where the next byte goes.
    pub(crate) fn pos(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() > BUFFER_BYTES {
            self.file.write_all_at(bytes, self.written)?;
            self.written += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Begins a checksum over what [`Output::put_summed`] writes.
    pub(crate) fn begin_sum(&mut self) {
        self.crc = 0;
    }

    pub(crate) fn put_summed(&mut self, bytes: &[u8]) -> Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.put(bytes)
    }

    /// Writes the checksum of everything summed since it began.
    pub(crate) fn put_sum(&mut self) -> Result<()> {
        self.put(&self.crc.to_be_bytes())
    }

    /// Writes zeros up to the next multiple of `align`.
    pub(crate) fn pad(&mut self, align: u64) -> Result<()> {
        const ZEROS: [u8; 16] = [0; 16];
        let missing = self.pos().next_multiple_of(align) - self.pos();
        let missing = usize::try_from(missing).expect("less than the alignment");
        self.put(&ZEROS[..missing])
    }

    /// Hands everything to the system, so that others can read it.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the rest and brings all of it to the medium; returns the length.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.flush()?;
        self.file.sync_all()?;
        Ok(self.written)
    }
}
