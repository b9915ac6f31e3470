//! The two ends: planes to pixels and back.

use super::{Context, Setting, Step, part, parts};
use half::bf16;

use crate::graph::Shape;
use crate::kernels::element::Element;
use crate::memory::View;

/// Copies the images into the arena, from channel planes to pixels, with zeros around.
pub(crate) struct InputStep {
    /// One image as it arrives.
    pub image: Shape,
    /// Rows above and columns to the left that are zero.
    pub pad: [usize; 2],
    /// The image with its padding.
    pub stored: Shape,
    /// Where it goes.
    pub out: View,
}

impl Step for InputStep {
    fn kernel(&self) -> String {
        "planes to pixels".into()
    }

    fn tasks(&self, setting: &Setting) -> usize {
        parts(setting.n * self.stored.height, 1, setting.threads)
    }

    unsafe fn run(&self, task: usize, context: &Context) {
        let Shape { height, width, channels } = self.image;
        for row in part(context.setting.n * self.stored.height, task, self.tasks(&context.setting)) {
            let (n, stored_y) = (row / self.stored.height, row % self.stored.height);
            let y = stored_y.wrapping_sub(self.pad[0]);
            let out = context.pixel(&self.out, row * self.stored.width);
            let image = context.input.wrapping_add(n * self.image.len());
            for stored_x in 0..self.stored.width {
                let x = stored_x.wrapping_sub(self.pad[1]);
                for c in 0..channels {
                    // SAFETY: (y, x) is checked against the image before it is read; the pixel of the arena exists and
                    // belongs to this task alone.
                    unsafe {
                        let value = if y < height && x < width {
                            *image.add((c * height + y) * width + x)
                        } else {
                            0.0
                        };
                        let index = stored_x * self.out.ld + c;
                        match self.out.element {
                            Element::F32 => *out.cast::<f32>().add(index) = value,
                            Element::Bf16 => *out.cast::<bf16>().add(index) = bf16::from_f32(value),
                        }
                    }
                }
            }
        }
    }
}

/// Copies the result out of the arena, from pixels to channel planes.
pub(crate) struct OutputStep {
    /// One image's result.
    pub shape: Shape,
    /// Where it lies.
    pub input: View,
}

impl Step for OutputStep {
    fn kernel(&self) -> String {
        "pixels to planes".into()
    }

    fn tasks(&self, setting: &Setting) -> usize {
        setting.n
    }

    unsafe fn run(&self, task: usize, context: &Context) {
        let (pixels, channels) = (self.shape.pixels(), self.shape.channels);
        let image = context.pixel(&self.input, task * pixels).cast_const();
        let out = context.output.wrapping_add(task * self.shape.len());
        for p in 0..pixels {
            for c in 0..channels {
                // SAFETY: the result is complete, and each image of the output belongs to one task.
                unsafe {
                    let index = p * self.input.ld + c;
                    *out.add(c * pixels + p) = match self.input.element {
                        Element::F32 => *image.cast::<f32>().add(index),
                        Element::Bf16 => (*image.cast::<bf16>().add(index)).to_f32(),
                    };
                }
            }
        }
    }
}
