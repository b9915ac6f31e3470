//! Optimisers: SGD with momentum, Adam and AdamW, by PyTorch's formulas, which Paddle's equal.
//!
//! They work on plain values, whichever device computed the gradients: their state is then a list of tensors
//! that a file can hold, and a step is the same to the bit wherever a run goes on.

use rayon::prelude::*;

use crate::recipe::{OptimizerKind, Recipe};

/// What an optimiser keeps of each tensor.
fn slots(kind: OptimizerKind) -> &'static [&'static str] {
    match kind {
        OptimizerKind::Sgd => &["momentum"],
        OptimizerKind::Adam | OptimizerKind::Adamw => &["mean", "variance"],
    }
}

/// Share of the old mean of the gradients that Adam keeps.
const BETA1: f64 = 0.9;
/// Share of the old mean of their squares that it keeps.
const BETA2: f64 = 0.999;
/// What Adam adds to a divisor.
const EPSILON: f64 = 1e-8;

/// A tensor to be changed: its number, its values and its gradient.
pub(crate) type Update<'a> = (usize, (&'a mut [f32], &'a [f32]));

/// An optimiser and what it remembers of each tensor.
#[derive(Clone, Debug)]
pub struct Optimizer {
    kind: OptimizerKind,
    momentum: f64,
    weight_decay: f64,
    steps: u64,
    names: Vec<String>,
    /// For each tensor what is kept of it, in the order of [`slots`].
    kept: Vec<Vec<Vec<f32>>>,
}

impl Optimizer {
    /// That of `recipe` before its first step, for tensors of these names and lengths.
    pub fn new<'a>(recipe: &Recipe, tensors: impl IntoIterator<Item = (&'a str, usize)>) -> Self {
        let Recipe { optimizer: kind, momentum, weight_decay, .. } = *recipe;
        let (mut names, mut kept) = (Vec::new(), Vec::new());
        for (name, len) in tensors {
            names.push(name.to_owned());
            kept.push(slots(kind).iter().map(|_| vec![0.0; len]).collect());
        }
        Self { kind, momentum, weight_decay, steps: 0, names, kept }
    }

    /// Steps that were made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Tensors that it changes.
    pub fn tensors(&self) -> usize {
        self.names.len()
    }

    /// Begins a step, in which each tensor is [`update`](Self::update)d once.
    pub fn begin_step(&mut self) {
        self.steps += 1;
    }

    /// Changes the tensor number `index` by its gradient.
    ///
    /// # Panics
    ///
    /// Where there is no such tensor, or the lengths differ from those it was made for.
    pub fn update(&mut self, index: usize, lr: f64, values: &mut [f32], gradient: &[f32]) {
        let step = self.constants(lr);
        step.apply(&mut self.kept[index], values, gradient);
    }

    /// [`update`](Self::update)s these tensors, which are all different, on rayon's threads.
    ///
    /// # Panics
    ///
    /// As [`update`](Self::update).
    pub(crate) fn update_all(&mut self, lr: f64, tensors: Vec<Update<'_>>) {
        let step = self.constants(lr);
        let mut kept: Vec<_> = self.kept.iter_mut().map(Some).collect();
        let work: Vec<_> = tensors
            .into_iter()
            .map(|(index, pair)| (kept[index].take().expect("the tensors are different"), pair))
            .collect();
        work.into_par_iter().for_each(|(kept, (values, gradient))| step.apply(kept, values, gradient));
    }

    fn constants(&self, lr: f64) -> Constants {
        let Self { kind, momentum, weight_decay, steps, .. } = *self;
        Constants { kind, momentum, weight_decay, steps, lr }
    }

    /// What it remembers, by name.
    pub(crate) fn state(&self) -> impl Iterator<Item = (String, &[f32])> {
        let slots = slots(self.kind);
        self.names.iter().zip(&self.kept).flat_map(move |(name, kept)| {
            slots.iter().zip(kept).map(move |(slot, values)| (format!("{slot}.{name}"), &values[..]))
        })
    }

    /// Takes back what [`state`](Self::state) gave after `steps` steps; `None` if something is not there or
    /// has another length.
    pub(crate) fn restore(
        &mut self,
        steps: u64,
        mut values: impl FnMut(&str) -> Option<Vec<f32>>,
    ) -> Option<()> {
        self.steps = steps;
        let slots = slots(self.kind);
        for (name, kept) in self.names.iter().zip(&mut self.kept) {
            for (slot, kept) in slots.iter().zip(kept) {
                *kept = values(&format!("{slot}.{name}")).filter(|values| values.len() == kept.len())?;
            }
        }
        Some(())
    }
}

/// A step of an optimiser.
struct Constants {
    kind: OptimizerKind,
    momentum: f64,
    weight_decay: f64,
    steps: u64,
    lr: f64,
}

impl Constants {
    /// Changes a tensor of which `kept` is kept.
    fn apply(&self, kept: &mut [Vec<f32>], values: &mut [f32], gradient: &[f32]) {
        assert!(values.len() == gradient.len() && kept.iter().all(|kept| kept.len() == values.len()));
        let decay = self.weight_decay as f32;
        match (self.kind, kept) {
            (OptimizerKind::Sgd, [velocity]) => {
                let (momentum, lr) = (self.momentum as f32, self.lr as f32);
                for ((value, &gradient), velocity) in values.iter_mut().zip(gradient).zip(velocity) {
                    *velocity = momentum * *velocity + (gradient + decay * *value);
                    *value -= lr * *velocity;
                }
            }
            (kind, [mean, variance]) => {
                let decoupled = kind == OptimizerKind::Adamw;
                let (in_gradient, shrink) = match decoupled {
                    true => (0.0, (1.0 - self.lr * self.weight_decay) as f32),
                    false => (decay, 1.0),
                };
                // Beyond this many steps both corrections are 1 in double precision, too.
                let steps = self.steps.min(1 << 30) as i32;
                let step = (self.lr / (1.0 - BETA1.powi(steps))) as f32;
                let correction = (1.0 - BETA2.powi(steps)).sqrt() as f32;
                let (keep1, new1) = (BETA1 as f32, (1.0 - BETA1) as f32);
                let (keep2, new2, epsilon) = (BETA2 as f32, (1.0 - BETA2) as f32, EPSILON as f32);
                let moments = mean.iter_mut().zip(variance);
                for ((value, &gradient), (mean, variance)) in values.iter_mut().zip(gradient).zip(moments) {
                    *value *= shrink;
                    let gradient = gradient + in_gradient * *value;
                    *mean = keep1 * *mean + new1 * gradient;
                    *variance = keep2 * *variance + new2 * gradient * gradient;
                    *value -= step * (*mean / (variance.sqrt() / correction + epsilon));
                }
            }
            _ => unreachable!("`new` makes the slots of the kind"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four steps on two values, whose gradients are `gradient`, from PyTorch 2.15
    /// (`torch.optim.SGD(momentum=0.9)`, `Adam`, `AdamW`; learning rate 0.1, weight decay 0.01; see
    /// `tests/optimizers.py`). Single precision is exact to 6e-8 a step, and the order of operations differs.
    #[test]
    fn steps_are_pytorchs() {
        let cases = include!("../tests/optimizers.in");
        for (kind, expected) in cases {
            let recipe = Recipe { optimizer: kind, lr: 0.1, weight_decay: 0.01, ..Recipe::head() };
            let mut optimizer = Optimizer::new(&recipe, [("w", 2)]);
            let mut values = [1.0_f32, -2.0];
            for (step, expected) in expected.into_iter().enumerate() {
                let gradient = [0.5 * values[0] + step as f32 * 0.25, values[1] * values[1] * 0.125];
                optimizer.begin_step();
                optimizer.update(0, 0.1, &mut values, &gradient);
                for (value, expected) in values.iter().zip(expected) {
                    assert!((f64::from(*value) - expected).abs() < 1e-6, "{kind:?} {step}: {values:?}");
                }
            }
        }
    }

    #[test]
    fn states_go_on() {
        for kind in [OptimizerKind::Sgd, OptimizerKind::Adam, OptimizerKind::Adamw] {
            let recipe = Recipe { optimizer: kind, ..Recipe::head() };
            let new = || Optimizer::new(&recipe, [("w", 3), ("b", 1)]);
            let step = |optimizer: &mut Optimizer, w: &mut [f32; 3]| {
                optimizer.begin_step();
                optimizer.update(0, 0.1, w, &[0.5, -1.0, 2.0]);
                optimizer.update(1, 0.1, &mut [0.0], &[1.0]);
            };
            let (mut whole, mut w) = (new(), [1.0; 3]);
            step(&mut whole, &mut w);
            let kept: Vec<(String, Vec<f32>)> =
                whole.state().map(|(name, values)| (name, values.to_vec())).collect();
            let (mut again, mut w_again) = (new(), w);
            let find =
                |name: &str| kept.iter().find(|(kept, _)| kept == name).map(|(_, values)| values.clone());
            assert!(again.restore(whole.steps(), find).is_some());
            step(&mut whole, &mut w);
            step(&mut again, &mut w_again);
            assert_eq!(w.map(f32::to_bits), w_again.map(f32::to_bits));
            assert!(new().restore(1, |_| Some(vec![0.0; 2])).is_none(), "another length");
            assert!(new().restore(1, |_| None).is_none());
        }
    }
}
