//! How subsets are drawn.

/// Draws pictures at random. Tools differ in their generators; an implementation repeats one's.
pub trait Draw {
    /// A random order of `0..count`, as NumPy's `permutation` or PyTorch's `randperm` make it.
    fn permutation(&mut self, count: usize) -> Vec<usize>;

    /// A number from 0 on below `count`, which is not 0.
    fn below(&mut self, count: usize) -> usize;
}
