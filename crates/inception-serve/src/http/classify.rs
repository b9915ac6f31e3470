//! Pictures in plain HTTP: the answer is that of `predict --json`.

use std::convert::Infallible;
use std::time::Instant;

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use inception::Prediction;
use serde_json::json;

use super::call::Call;
use super::reply::{Reply, of};
use crate::models::Loaded;
use crate::queue::Input;
use crate::refusal::Refusal;

/// What is asked for in the query of the address.
struct Query {
    top_k: usize,
    logits: bool,
}

impl Query {
    fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let mut parsed = Self { top_k: 5, logits: false };
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let wrong =
                || Refusal::invalid("the query has `top_k=NUMBER` and `logits=true`, and nothing else");
            match pair.split_once('=') {
                Some(("top_k", number)) => parsed.top_k = number.parse().map_err(|_| wrong())?,
                Some(("logits", yes)) => parsed.logits = yes.parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        Ok(parsed)
    }
}

/// A picture and its name.
struct Picture {
    name: String,
    bytes: Bytes,
}

/// Longest name of a picture that is repeated in the answer, in characters.
const MAX_NAME: usize = 255;

/// The pictures of a body of several parts.
async fn parts(boundary: String, body: Bytes, limit: usize) -> Result<Vec<Picture>, Refusal> {
    let broken = |error: multer::Error| Refusal::invalid(format!("the multipart body is broken: {error}"));
    let whole = tokio_stream::once(Ok::<_, Infallible>(body));
    let mut multipart = multer::Multipart::new(whole, boundary);
    let mut pictures = Vec::new();
    while let Some(field) = multipart.next_field().await.map_err(broken)? {
        if pictures.len() == limit {
            return Err(Refusal::TooLarge { limit, what: "pictures" });
        }
        let name = field.file_name().or_else(|| field.name()).unwrap_or("-");
        let name = name.chars().take(MAX_NAME).collect();
        pictures.push(Picture { name, bytes: field.bytes().await.map_err(broken)? });
    }
    if pictures.is_empty() { Err(Refusal::invalid("the multipart body has no parts")) } else { Ok(pictures) }
}

/// A line of the answer.
fn line(
    model: &Loaded,
    served_as: &str,
    name: String,
    outcome: &Result<Prediction, Refusal>,
    query: &Query,
) -> serde_json::Result<Vec<u8>> {
    let mut text = match outcome {
        Ok(prediction) => {
            let mut answer = model.classifier.answer(name, prediction, query.top_k, query.logits);
            (answer.model, answer.warnings) = (served_as, &model.warnings);
            serde_json::to_vec(&answer)?
        }
        Err(refusal) => {
            serde_json::to_vec(&json!({ "image": name, "model": served_as, "error": refusal.to_string() }))?
        }
    };
    text.push(b'\n');
    Ok(text)
}

/// `POST /v1/models/NAME/classify`.
pub async fn classify(mut call: Call<'_>, name: &str) -> Result<Reply, Refusal> {
    let start = Instant::now();
    let state = call.state;
    let (slot, model) = state.model(name, None)?;
    let served_as = state.slots[slot].name();
    let query = Query::parse(call.parts.uri.query())?;
    let content_type = call.header(CONTENT_TYPE.as_str()).unwrap_or_default();
    let boundary =
        match content_type.to_ascii_lowercase().starts_with("multipart/") {
            true => Some(multer::parse_boundary(content_type).map_err(|_| {
                Refusal::Media("several pictures come as multipart/form-data with a boundary")
            })?),
            false => None,
        };
    let several = boundary.is_some();
    let body = call.bytes().await?;
    let pictures = match boundary {
        Some(boundary) => parts(boundary, body, state.options.limits.pictures).await?,
        None => vec![Picture { name: "-".to_owned(), bytes: body }],
    };
    let (names, inputs): (Vec<_>, Vec<_>) =
        pictures.into_iter().map(|picture| (picture.name, Input::Picture(picture.bytes))).unzip();
    let outcomes = state.submit(slot, &model, inputs, Some(call.lease))?.outcomes().await;
    // Of several pictures one that is broken does not cost the others their answers.
    if let Some(Err(refusal)) = outcomes.first()
        && outcomes.iter().all(Result::is_err)
    {
        return Err(refusal.clone());
    }
    let lines = names
        .into_iter()
        .zip(&outcomes)
        .map(|(name, outcome)| line(&model, served_as, name, outcome, &query));
    let text = lines.collect::<Result<Vec<_>, _>>().map_err(|_| Refusal::Internal)?.concat();
    state.metrics.answered(served_as, "http", start.elapsed());
    Ok(of(if several { "application/x-ndjson" } else { "application/json" }, text))
}
