//! Memory that direct I/O can write from.

use bytes::BytesMut;

use super::format::BLOCK;

/// Memory that is kept from group to group. A group with a batch near a Kafka frame's limit needs more, for once.
const KEPT: usize = 32 * 1024 * 1024;

/// Bytes that begin at a multiple of [`BLOCK`] in memory.
#[derive(Debug, Default)]
pub(super) struct Staging {
    memory: BytesMut,
    /// Where in `memory` the bytes begin.
    begin: usize,
}

impl Staging {
    /// Begins anew, with room for `len` bytes. The bytes go to the end of what is returned; with more than `len` of them
    /// they may no longer begin at a block, which costs the direct write but harms nothing.
    pub(super) fn begin(&mut self, len: usize) -> &mut BytesMut {
        self.memory.clear();
        self.memory.reserve(len + BLOCK);
        self.begin = self.memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        self.memory.resize(self.begin, 0);
        &mut self.memory
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory[self.begin..]
    }

    /// Gives back memory that only a rare group needs.
    pub(super) fn shrink(&mut self) {
        if self.memory.capacity() > KEPT {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_begin_at_a_block_whatever_the_memory() {
        let mut staging = Staging::default();
        for len in [1, BLOCK, 100_000, 3, KEPT + 1] {
            let bytes = staging.begin(len);
            bytes.resize(bytes.len() + len, 7);
            assert_eq!(staging.bytes(), vec![7; len]);
            assert_eq!(staging.bytes().as_ptr().align_offset(BLOCK), 0);
            staging.shrink();
        }
        assert!(staging.memory.capacity() <= KEPT);
    }
}
