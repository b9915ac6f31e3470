//! Time of the three products of convolutions, in the shapes of GoogLeNet's for images of 96 pixels.
//!
//! usage: cargo run --release -p inception-gradient --example conv [THREADS]

#![allow(clippy::unwrap_used)]

use std::time::Instant;

use inception_gradient::{Options, Trainer};
use inception_graph::{Conv, Graph, Op, Parameter, Shape, Window};

fn main() {
    let threads = std::env::args().nth(1).map_or(2, |threads| threads.parse().unwrap());
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    for (side, inputs, outputs, kernel) in [
        (24, 64, 192, 3),
        (12, 96, 128, 3),
        (12, 256, 128, 1),
        (6, 112, 224, 3),
        (6, 512, 160, 1),
        (3, 832, 384, 1),
    ] {
        let mut graph = Graph::new(Shape::new(side, side, inputs));
        // A convolution before it, so that it has a gradient of its input.
        let parameter = |name: &str, inputs, outputs, kernel| Parameter {
            name: name.into(),
            shape: vec![outputs, inputs, kernel, kernel],
        };
        let mut conv = |name: &str, from, inputs, outputs, kernel: usize| {
            let window = Window::square(kernel, 1, kernel / 2);
            let conv =
                Conv { out_channels: outputs, ..Conv::new(parameter(name, inputs, outputs, kernel), window) };
            graph.add(name, Op::Conv(Box::new(conv)), &[from]).unwrap()
        };
        let first = conv("first", 0, inputs, inputs, 1);
        conv("conv", first, inputs, outputs, kernel);
        let mut trainer = Trainer::<f32>::new(&graph, &Options::default()).unwrap();
        let batch = 16;
        let images = vec![0.5; batch * side * side * inputs];
        let gradient = vec![0.5; batch * trainer.output_len()];
        let (mut there, mut back) = (f64::MAX, f64::MAX);
        for _ in 0..20 {
            let start = Instant::now();
            trainer.forward(&images, batch, 0);
            there = there.min(start.elapsed().as_secs_f64());
            let start = Instant::now();
            trainer.backward(&gradient);
            back = back.min(start.elapsed().as_secs_f64());
        }
        let pixels = (batch * side * side) as f64;
        let macs = pixels * (inputs * outputs * kernel * kernel + inputs * inputs) as f64;
        let both = pixels * (2 * inputs * outputs * kernel * kernel + inputs * inputs) as f64;
        println!(
            "{side}x{side} {inputs} -> {outputs}, {kernel}x{kernel}: {:.1} and {:.1} GFLOP/s",
            2e-9 * macs / there,
            2e-9 * both / back
        );
    }
}
