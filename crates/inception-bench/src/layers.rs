//! Layers of a network on the engine: the choice of their kernels against the clock, and their rounding
//! errors.

use inception::engine::graph::Graph;
use inception::engine::{self, Choice, NumericalErrors};
use inception::nn::{Network, NetworkConfig};
use inception::{Error, RunOptions};

/// Times each layer of a network, for images of `[height, width]`, by every algorithm that the engine has for
/// it, `repeats` times in alternation.
///
/// # Errors
///
/// [`Error::Engine`] where the engine cannot run here.
pub fn choices(
    config: &NetworkConfig,
    [height, width]: [usize; 2],
    options: &RunOptions,
    repeats: usize,
) -> Result<Vec<Choice>, Error> {
    let graph = graph(config, [3, height, width])?;
    Ok(engine::choices(&graph, &options.engine()?, repeats)?)
}

/// Compares every layer of a network on one image, `[3][height][width]`, with an evaluation in `f64`.
///
/// # Errors
///
/// [`Error::Engine`] where the engine cannot run here, or `image` has another size.
pub fn layer_errors(
    config: &NetworkConfig,
    [height, width]: [usize; 2],
    options: &RunOptions,
    image: &[f32],
) -> Result<NumericalErrors, Error> {
    let graph = graph(config, [3, height, width])?;
    Ok(engine::layer_errors(&graph, &options.engine()?, image)?)
}

fn graph(config: &NetworkConfig, image: [usize; 3]) -> Result<Graph, Error> {
    engine::capture_init(|device| Ok::<_, Error>(config.init(device)?), Network::forward, image)
}
