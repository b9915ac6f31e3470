//! The answer for a picture, as `--json` prints it and a server sends it.

use std::borrow::Cow;

use inception_weights::Activation;
use serde::Serialize;

use crate::classifier::{Classifier, Guess, Prediction};

/// The answer for a picture; as JSON one line of `predict --json`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Answer<'a> {
    /// The name of the picture.
    pub image: Cow<'a, str>,
    /// Whether the name of the picture is no UTF-8, and `image` only looks like it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub image_is_lossy: bool,
    /// The model.
    pub model: &'a str,
    /// What is to be known before trusting the answer.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub warnings: &'a [String],
    /// What the probabilities are, where they are no shares of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<Activation>,
    /// The likeliest classes.
    pub top: Vec<Guess>,
    /// One for each class, before the softmax, where they are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logits: Option<&'a [f32]>,
}

impl Classifier {
    /// The answer for the picture `image`: the `top_k` likeliest classes, and all logits `with_logits`. Its
    /// model is called as in the table, its warnings are the classifier's, and its name is UTF-8, until they
    /// are set otherwise.
    pub fn answer<'a>(
        &'a self,
        image: impl Into<Cow<'a, str>>,
        prediction: &'a Prediction,
        top_k: usize,
        with_logits: bool,
    ) -> Answer<'a> {
        Answer {
            image: image.into(),
            image_is_lossy: false,
            model: self.spec().name,
            warnings: self.warnings(),
            probabilities: (self.activation() == Activation::Sigmoid).then_some(Activation::Sigmoid),
            top: self.top(prediction, top_k),
            logits: with_logits.then_some(&prediction.logits[..]),
        }
    }
}
