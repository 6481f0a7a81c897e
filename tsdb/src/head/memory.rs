//! Who holds how much of the head's memory, counted from what was allocated and not from what it holds.

use super::Head;

impl Head {
    /// The bytes of memory by owner. Mapped chunk files are not counted: the system takes them back when it needs to.
    pub fn memory(&self) -> [(&'static str, u64); 13] {
        let inner = &*self.0;
        let (mut lines, mut cold, mut buffers, mut chunks, mut extensions, mut metadata) = (0, 0, 0, 0, 0, 0);
        for shard in &inner.shards {
            lines += shard.lines.bytes();
            let state = shard.state.read();
            cold += state.cold_bytes();
            buffers += state.buffers.bytes();
            chunks += state.chunk_bytes();
            extensions += state.extension_bytes();
            metadata += state.metadata_bytes();
        }
        metadata += inner.metadata.bytes();
        let registry = inner.registry.read();
        let of_registry = registry.memory();
        drop(registry);
        [
            ("series_lines", lines),
            ("series_cold", cold),
            ("open_chunks", buffers),
            ("chunk_descriptors", chunks),
            ("extensions", extensions),
            ("chunk_write_buffer", inner.chunks.buffer_bytes()),
            ("symbols", of_registry.symbols),
            ("label_pairs", of_registry.pairs),
            ("label_sets", of_registry.label_sets),
            ("series_ids", of_registry.series),
            ("postings", of_registry.postings),
            ("exemplars", inner.exemplars.bytes()),
            ("metadata", metadata),
        ]
    }
}
