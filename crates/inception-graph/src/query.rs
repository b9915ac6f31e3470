//! What can be asked of a graph.

use crate::{Error, Graph, Op, Shape, Weight};

impl<W: Weight> Graph<W> {
    /// Multiply-adds for one image: those of convolutions and fully connected layers, as is published. Batch
    /// norms (foldable), pools, sums and ReLUs are left out.
    pub fn macs(&self) -> u64 {
        self.nodes.iter().map(crate::Node::macs).sum()
    }

    /// The side of the smallest square image on which every window of the network fits.
    ///
    /// # Errors
    ///
    /// [`Error::Graph`] for a graph that no image up to 4096 pixels fits.
    pub fn minimum_input(&self) -> Result<usize, Error> {
        let mut resized = self.clone();
        let mut fits = |side: usize| resized.infer_shapes([side; 2]);
        match (1..4096).find(|&side| fits(side).is_ok()) {
            Some(side) => Ok(side),
            None => fits(4096).map(|()| 4096),
        }
    }

    /// The map that the classifier pools: what the last global pool reads, or else the output.
    pub fn features(&self) -> Shape {
        let pool = self.nodes.iter().rev().find(|node| matches!(node.op, Op::GlobalAveragePool));
        self.nodes[pool.map_or(self.output, |node| node.inputs[0])].shape
    }

    /// The floats of the largest set of tensors that must be there at once for an image, if operations are
    /// computed one after the other in their order: a tensor is there until its last reader is done, and an
    /// elementwise operation overwrites an input that it alone reads. What a device adds for itself, such as
    /// copies in another layout, is not in it.
    pub fn peak_activations(&self) -> u64 {
        let mut readers = vec![0; self.nodes.len()];
        self.nodes.iter().flat_map(|node| &node.inputs).for_each(|&i| readers[i] += 1);
        let floats = |i: usize| self.nodes[i].shape.len() as u64;
        let (mut live, mut peak) = (0, 0);
        for (id, node) in self.nodes.iter().enumerate() {
            let in_place = node.op.is_elementwise() && node.inputs.iter().any(|&i| readers[i] == 1);
            live += if in_place { 0 } else { floats(id) };
            peak = peak.max(live);
            let mut overwritten = in_place;
            for &i in &node.inputs {
                readers[i] -= 1;
                // The one that was overwritten goes on as the result.
                if readers[i] == 0 && !std::mem::take(&mut overwritten) {
                    live -= floats(i);
                }
            }
        }
        peak
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test fails by panicking.
mod tests {
    use crate::{Conv, Graph, Linear, Op, Pool, PoolKind, Shape, Window};

    /// Two branches of a 10x10 image, concatenated, pooled and classified.
    fn graph() -> Graph {
        let mut graph = Graph::new(Shape::new(10, 10, 2));
        let conv = |kernel: usize, out_channels: usize| {
            let weight = vec![1.0; out_channels * 2 * kernel * kernel];
            Op::Conv(Box::new(Conv { out_channels, ..Conv::new(weight, Window::square(kernel, 2, 0)) }))
        };
        let a = graph.add("a", conv(3, 4), &[0]).unwrap();
        let a = graph.add("a.relu", Op::Relu, &[a]).unwrap();
        let window = Window::square(4, 2, 0);
        let b = Op::Pool(Box::new(Pool { kind: PoolKind::Max, window, bias: None, relu: false }));
        let b = graph.add("b", b, &[0]).unwrap();
        let both = graph.add("both", Op::Concat, &[a, b]).unwrap();
        let pooled = graph.add("pool", Op::GlobalAveragePool, &[both]).unwrap();
        let fc = Linear { weight: vec![1.0; 6 * 3], bias: None, out_features: 3, transposed: false };
        graph.add("fc", Op::Linear(Box::new(fc)), &[pooled]).unwrap();
        graph
    }

    #[test]
    fn queries_by_hand() {
        let graph = graph();
        graph.verify().unwrap();
        assert_eq!(graph.macs(), 4 * 4 * 4 * 2 * 9 + 18);
        assert_eq!(graph.features(), Shape::new(4, 4, 6));
        // 4 would do for the pool, but gives the convolution one pixel more than the pool: 1x1 and 1x1.
        assert_eq!(graph.minimum_input().unwrap(), 4);
        // The image, the convolution's output and the pool's.
        assert_eq!(graph.peak_activations(), 200 + 64 + 32);
    }

    #[test]
    fn other_sizes_are_inferred_or_refused() {
        let mut graph = graph();
        graph.infer_shapes([12, 14]).unwrap();
        graph.verify().unwrap();
        assert_eq!(graph.features(), Shape::new(5, 6, 6));
        let error = graph.infer_shapes([3, 9]).unwrap_err().to_string();
        assert_eq!(error, "node b (max_pool): window [4, 4] does not fit an input of 3x9x2");
        assert!(graph.infer_shapes([0, 9]).is_err());
    }
}
