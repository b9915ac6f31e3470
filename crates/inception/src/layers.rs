//! Layers that a quantised network keeps in `f32`.

use std::collections::BTreeSet;
use std::sync::Arc;

use inception_engine::graph::Graph;
use inception_engine::{Compiled, LayerSqnr, Options, Precision as EnginePrecision, Quantization};

use crate::error::Error;

/// Pictures on which layers are ordered.
const ORDERED_ON: usize = 4;

/// Layers of which each is tried in `int8` again, once enough are in `f32`.
const MOST_TRIED: usize = 32;

/// A layer that stays in `f32`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerInFloat {
    /// The layer.
    pub layer: String,
    /// The error of the logits if this layer alone is in `int8`: root mean square, over that of the logits.
    pub error: f64,
}

/// A network with other sets of layers in `f32`.
pub(crate) struct Mixed<'a> {
    pub graph: &'a Graph,
    pub engine: &'a Options,
    pub quantization: &'a Quantization,
}

impl Mixed<'_> {
    /// Options with `layers` in `f32`.
    pub fn options(&self, layers: &BTreeSet<String>) -> Options {
        let quantization = Quantization { floats: layers.clone(), ..self.quantization.clone() };
        let quantization = Some(Arc::new(quantization));
        Options { precision: EnginePrecision::Int8, quantization, ..self.engine.clone() }
    }

    fn compiled(&self, layers: &BTreeSet<String>) -> Result<Compiled, Error> {
        Ok(Compiled::from_graph(self.graph.clone(), &self.options(layers))?)
    }

    /// The convolutions that multiply integers, those first whose rounding alone changes the logits of `images` most.
    /// `progress` is told how many images were run, and how many will have been.
    pub fn by_error(
        &self,
        layers: &[LayerSqnr],
        images: &[Vec<f32>],
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Vec<LayerInFloat>, Error> {
        let images = &images[..images.len().min(ORDERED_ON)];
        let exact = Compiled::from_graph(self.graph.clone(), self.engine)?;
        let wanted = images.iter().map(|image| exact.run(image, 1)).collect::<Result<Vec<_>, _>>()?;
        let rounds = |layer: &&LayerSqnr| {
            layer.precision == EnginePrecision::Int8 && ["conv", "depthwise"].contains(&layer.op)
        };
        let all: BTreeSet<String> = layers.iter().filter(rounds).map(|layer| layer.node.clone()).collect();
        let (mut done, total) = (0, all.len() * images.len());
        let error = |layer: &String| {
            let mut others = all.clone();
            others.remove(layer);
            let model = self.compiled(&others)?;
            done += images.len();
            progress(done, total);
            let (mut signal, mut noise) = (f64::MIN_POSITIVE, 0.0);
            for (image, wanted) in images.iter().zip(&wanted) {
                for (wanted, found) in wanted.iter().zip(model.run(image, 1)?) {
                    signal += f64::from(*wanted).powi(2);
                    noise += f64::from(wanted - found).powi(2);
                }
            }
            Ok::<_, Error>(LayerInFloat { layer: layer.clone(), error: (noise / signal).sqrt() })
        };
        let mut ordered = all.iter().map(error).collect::<Result<Vec<_>, _>>()?;
        ordered.sort_by(|a, b| b.error.total_cmp(&a.error));
        Ok(ordered)
    }
}

/// The fewest of `ordered` for which `agreement` is at least `wanted`, as far as the order tells, where none is not
/// enough: the shortest beginning that is, without those of it that are not needed. All of them where not even that
/// is enough.
pub(crate) fn fewest(
    ordered: &[LayerInFloat],
    wanted: f64,
    mut agreement: impl FnMut(&BTreeSet<String>) -> Result<f64, Error>,
) -> Result<Vec<LayerInFloat>, Error> {
    let names =
        |layers: &[LayerInFloat]| layers.iter().map(|layer| layer.layer.clone()).collect::<BTreeSet<_>>();
    // Not enough, and enough unless it is all of them.
    let (mut few, mut enough) = (0, ordered.len());
    while enough - few > 1 {
        let middle = few.midpoint(enough);
        match agreement(&names(&ordered[..middle]))? >= wanted {
            true => enough = middle,
            false => few = middle,
        }
    }
    let mut kept = ordered[..enough].to_vec();
    if kept.len() > MOST_TRIED {
        return Ok(kept);
    }
    // The last one is needed: without it the others are not enough.
    for index in (0..kept.len().saturating_sub(1)).rev() {
        let mut without = kept.clone();
        without.remove(index);
        if agreement(&names(&without))? >= wanted {
            kept = without;
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of eight layers, 2 and 5 have to stay in `f32`, and 4 is as good as 5: the shortest beginning has 0 to 4, of which
    /// 2 and 4 are left.
    #[test]
    fn the_fewest_layers_are_found() -> Result<(), Error> {
        let layer = |i: u8| LayerInFloat { layer: i.to_string(), error: 1.0 / f64::from(i + 1) };
        let ordered: Vec<_> = (0..8).map(layer).collect();
        let has = |layers: &BTreeSet<String>, i: u8| layers.contains(&i.to_string());
        let mut runs = 0;
        let found = fewest(&ordered, 0.99, |layers| {
            runs += 1;
            let second = has(layers, 4) || has(layers, 5);
            Ok(0.9 + 0.05 * f64::from(u8::from(has(layers, 2))) + 0.05 * f64::from(u8::from(second)))
        })?;
        assert_eq!(found, [layer(2), layer(4)]);
        assert!(runs <= 3 + 4, "{runs}");
        assert_eq!(fewest(&ordered, 0.99, |_| Ok(0.95))?.len(), 8, "more than there is cannot be done");
        Ok(())
    }

    /// Of two layers the one is of weights that are integers of one unit, and the other has a weight beside which the others
    /// are less than half a step and vanish: it comes first, and in `f32` it leaves the error of the former alone.
    #[test]
    fn the_layer_whose_rounding_does_most_harm_comes_first() -> Result<(), Error> {
        use inception_engine::graph::{Conv, Op, Shape, Window};
        use inception_engine::{Calibrator, Precision, RangeMethod, layer_sqnr, noise};
        let mut graph = Graph::new(Shape::new(6, 6, 16));
        let mut conv = |name: &str, weight: Vec<f32>| {
            let conv = Conv { out_channels: 16, ..Conv::new(weight, Window::square(1, 1, 0)) };
            graph.add(name, Op::Conv(Box::new(conv)), &[graph.output])
        };
        let exact = |i: usize| ((i * 37 + i / 16) % 255) as f32 / 127.0 - 1.0;
        let coarse = |i: usize| if i.is_multiple_of(16) { 1.0 } else { 0.0038 };
        let engine = conv("exact", (0..256).map(exact).collect())
            .and_then(|_| conv("coarse", (0..256).map(coarse).collect()))
            .and_then(|_| graph.add("mean", Op::GlobalAveragePool, &[graph.output]));
        engine.map_err(inception_engine::Error::from)?;
        let images: Vec<Vec<f32>> =
            (0..3).map(|i| noise(6 * 6 * 16 + i * 40)[i * 40..].iter().map(|x| x.abs()).collect()).collect();
        let engine = Options { threads: 1, ..Options::default() };
        let mut calibrator = Calibrator::new(&graph, &engine)?;
        images.iter().try_for_each(|image| calibrator.add(image))?;
        let mut quantization = calibrator.finish(RangeMethod::MinMax);
        // Means would be right again otherwise.
        quantization.biases.clear();
        let mixed = Mixed { graph: &graph, engine: &engine, quantization: &quantization };
        let listen = |options: &Options| layer_sqnr(&graph, options, images.iter().map(|image| &image[..]));
        let layers = listen(&mixed.options(&BTreeSet::new()))?;
        let ordered = mixed.by_error(&layers, &images, |_, _| {})?;
        let names: Vec<&str> = ordered.iter().map(|layer| layer.layer.as_str()).collect();
        assert_eq!(names, ["coarse", "exact"]);
        assert!(ordered[0].error > 5.0 * ordered[1].error, "{ordered:?}");
        let better = listen(&mixed.options(&BTreeSet::from(["coarse".to_owned()])))?;
        let of = |layers: &[LayerSqnr], node: &str| {
            let layer = layers.iter().find(|layer| layer.node == node).expect("a layer");
            (layer.precision, layer.sqnr_db)
        };
        assert_eq!((of(&layers, "coarse").0, of(&better, "coarse").0), (Precision::Int8, Precision::F32));
        assert!(of(&better, "mean").1 > of(&layers, "mean").1 + 10.0, "{layers:?} {better:?}");
        Ok(())
    }
}
