//! The engine on a network of one's own, not one of the Inception family: any Burn module of convolutions,
//! pools and the like.

use inception::burn::module::Module;
use inception::burn::nn::conv::{Conv2d, Conv2dConfig};
use inception::burn::nn::{Linear, LinearConfig};
use inception::burn::tensor::activation::relu;
use inception::burn::tensor::{Device, Tensor};
use inception::engine::{Compiled, Options, capture, noise};

#[derive(Module, Debug)]
struct Small {
    conv: Conv2d,
    head: Linear,
}

impl Small {
    /// `[batch, 3, height, width]` to `[batch, 10]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let maps = relu(self.conv.forward(images));
        let pooled = maps.mean_dim(3).mean_dim(2);
        self.head.forward(pooled.flatten(1, 3))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let small = Small {
        conv: Conv2dConfig::new([3, 64], [3, 3]).init(&device),
        head: LinearConfig::new(64, 10).init(&device),
    };
    let graph = capture(small, |small, images| small.forward(images), [3, 32, 32])?;
    let compiled = Compiled::from_graph(graph, &Options::default())?;
    for row in compiled.explain() {
        println!("{}: {}, {}", row.node, row.op, row.lowering);
    }
    println!("{:?}", compiled.run(&noise(3 * 32 * 32), 1)?);
    Ok(())
}
