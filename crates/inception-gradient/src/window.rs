//! Which pixels a window joins.

use inception_graph::{Shape, Window};

/// In a table: no pixel, the padding.
pub(crate) const NONE: u32 = u32::MAX;

/// Pixels of an image that are sums over the same taps of other pixels: of an output all, of the gradient of
/// an input those at one place between the strides.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    /// The pixels, as numbers.
    pub targets: Vec<u32>,
    /// The taps.
    pub taps: Vec<u32>,
    /// For each tap, for each target: the pixel that it reads, or [`NONE`].
    pub sources: Vec<u32>,
}

/// From the pixels of the input to those of the output.
pub(crate) fn forward(window: &Window, input: Shape, output: Shape) -> Phase {
    let [height, width] = window.kernel;
    let mut sources = Vec::with_capacity(height * width * output.pixels());
    for y in 0..height {
        for x in 0..width {
            for row in 0..output.height {
                let row = window.source(0, row, y, input.height);
                for column in 0..output.width {
                    let column = window.source(1, column, x, input.width);
                    sources.push(match (row, column) {
                        (Some(row), Some(column)) => (row * input.width + column) as u32,
                        _ => NONE,
                    });
                }
            }
        }
    }
    Phase {
        targets: (0..output.pixels() as u32).collect(),
        taps: (0..(height * width) as u32).collect(),
        sources,
    }
}

/// From the pixels of the output to those of the input: a phase for each place between strides, since other
/// taps meet there.
pub(crate) fn backward(window: &Window, input: Shape, output: Shape) -> Vec<Phase> {
    let forward = forward(window, input, output);
    let (pixels, taps) = (output.pixels(), forward.taps.len());
    // For each tap, for each pixel of the input: the pixel of the output that reads it.
    let mut readers = vec![NONE; taps * input.pixels()];
    for tap in 0..taps {
        for target in 0..pixels {
            let source = forward.sources[tap * pixels + target];
            if source != NONE {
                readers[tap * input.pixels() + source as usize] = target as u32;
            }
        }
    }
    let [down, right] = window.stride;
    let phases = (0..down).flat_map(|y| (0..right).map(move |x| (y, x)));
    let phase = |(y, x)| {
        let rows = (y..input.height).step_by(down);
        let targets = rows.flat_map(|row| {
            (x..input.width).step_by(right).map(move |column| (row * input.width + column) as u32)
        });
        let targets: Vec<u32> = targets.collect();
        let row = |tap: usize| {
            targets.iter().map(|&target| readers[tap * input.pixels() + target as usize]).collect::<Vec<_>>()
        };
        let met =
            (0..taps).map(|tap| (tap as u32, row(tap))).filter(|(_, row)| row.iter().any(|&p| p != NONE));
        let (taps, rows): (Vec<u32>, Vec<Vec<u32>>) = met.unzip();
        Phase { sources: rows.concat(), taps, targets }
    };
    phases.map(phase).filter(|phase| !phase.targets.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window of 2 with stride 2 and a pixel of padding before, on 3 pixels: (-, 0), (1, 2).
    #[test]
    fn windows_by_hand() {
        let window = Window { pad_end: [0; 2], ..Window::new([1, 2], [1, 2], [0, 1]) };
        let (input, output) = (Shape::new(1, 3, 1), Shape::new(1, 2, 1));
        let there = forward(&window, input, output);
        assert_eq!(there.sources, [NONE, 1, 0, 2]);
        let back = backward(&window, input, output);
        let targets: Vec<_> = back.iter().map(|phase| (&phase.targets[..], &phase.taps[..])).collect();
        assert_eq!(targets, [(&[0, 2][..], &[1][..]), (&[1][..], &[0][..])]);
        assert_eq!(back[0].sources, [0, 1]);
        assert_eq!(back[1].sources, [1]);
    }
}
