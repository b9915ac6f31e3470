//! The planner: places in one arena for buffers that live at different times.

/// A buffer's size, and the levels of the plan that touch it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// Floats.
    pub size: usize,
    /// The level that first writes it.
    pub first: usize,
    /// The level that last reads or writes it.
    pub last: usize,
}

impl Lifetime {
    /// Whether the buffer lives at `level`.
    pub fn contains(&self, level: usize) -> bool {
        (self.first..=self.last).contains(&level)
    }

    /// Whether both buffers live at some level.
    fn overlaps(&self, other: &Lifetime) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// A buffer with its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    /// Its start in floats for a batch of one; for a batch of n everything is n times as far.
    pub offset: usize,
    /// Its size and the levels that touch it.
    pub lifetime: Lifetime,
}

/// The layout of the memory that holds all activations of a run.
pub(crate) struct Arena {
    /// Floats for one image.
    pub floats: usize,
    /// The buffers in it; those that live at the same level do not overlap.
    pub buffers: Vec<Buffer>,
}

impl Arena {
    /// Places buffers, in the order of `lifetimes`: the largest first, each into the lowest gap that fits.
    /// The size is within a few percent of the lower bound on the networks of this workspace.
    pub fn plan(lifetimes: &[Lifetime]) -> Arena {
        let mut buffers: Vec<Buffer> =
            lifetimes.iter().map(|&lifetime| Buffer { offset: 0, lifetime }).collect();
        let mut order: Vec<usize> = (0..buffers.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(lifetimes[i].size));
        let mut floats = 0;
        for (done, &i) in order.iter().enumerate() {
            let size = lifetimes[i].size;
            let mut taken: Vec<(usize, usize)> = order[..done]
                .iter()
                .filter(|&&j| lifetimes[i].overlaps(&lifetimes[j]))
                .map(|&j| (buffers[j].offset, buffers[j].offset + lifetimes[j].size))
                .collect();
            taken.sort_unstable();
            let mut offset = 0;
            for (start, end) in taken {
                if start >= offset + size {
                    break;
                }
                offset = offset.max(end);
            }
            buffers[i].offset = offset;
            floats = floats.max(offset + size);
        }
        Arena { floats, buffers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::LINE;

    #[test]
    fn buffers_of_one_level_never_overlap() {
        // A small multiplicative generator: sizes and lifetimes of all kinds, the same on every run.
        let mut state = 7u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        let lifetimes: Vec<Lifetime> = (0..200)
            .map(|_| {
                let first = next(50);
                Lifetime { size: LINE * (1 + next(100)), first, last: first + next(8) }
            })
            .collect();
        let Arena { floats, buffers } = Arena::plan(&lifetimes);
        let mut live = vec![0; 64];
        let end = |buffer: &Buffer| buffer.offset + buffer.lifetime.size;
        for (i, a) in buffers.iter().enumerate() {
            let lifetime = a.lifetime;
            assert!(end(a) <= floats && a.offset % LINE == 0);
            live[lifetime.first..=lifetime.last].iter_mut().for_each(|level| *level += lifetime.size);
            for (j, b) in buffers.iter().enumerate().take(i) {
                let together = lifetime.first <= b.lifetime.last && b.lifetime.first <= lifetime.last;
                assert!(!together || end(a) <= b.offset || end(b) <= a.offset, "{i} and {j}");
            }
        }
        let bound = live.into_iter().max().unwrap_or(0);
        assert!(floats < bound * 3 / 2, "arena {floats}, at least {bound} needed");
    }
}
