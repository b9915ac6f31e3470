//! The Open Inference Protocol over gRPC.

mod messages;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use prost::Message;
use tonic::server::{Grpc, UnaryService};
use tonic::{Response, Status};
use tonic_prost::ProstCodec;

use crate::body::{Guarded, Lease};
use crate::refusal::Refusal;
use crate::state::{State, VERSION};
use crate::v2::{self, OutputValues, Tensor, Values};
use messages::{
    Choice, Config, ConfigInput, ConfigOutput, Contents, Empty, IndexEntry, InputTensor, ModelConfigResponse,
    ModelInferRequest, ModelInferResponse, ModelMetadata, ModelName, OutputTensor, RepositoryIndexResponse,
    ServerMetadata, TensorMetadata, Yes,
};

/// An answer.
pub(crate) type Reply = hyper::Response<tonic::body::Body>;

/// The service, before the name of a method.
const SERVICE: &str = "/inference.GRPCInferenceService/";

/// Bytes of a request apart from its tensors.
const OVERHEAD: usize = 64 << 10;

/// A method of one message in and one out.
struct Unary<F>(F);

impl<F, I, O, T> UnaryService<I> for Unary<F>
where
    F: FnMut(I) -> T,
    T: Future<Output = Result<O, Refusal>> + Send + 'static,
{
    type Response = O;
    type Future = Pin<Box<dyn Future<Output = Result<Response<O>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<I>) -> Self::Future {
        let answer = (self.0)(request.into_inner());
        Box::pin(async { answer.await.map(Response::new).map_err(|refusal| Status::from(&refusal)) })
    }
}

/// Answers a request.
pub(crate) async fn serve(state: Arc<State>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let start = Instant::now();
    let path = request.uri().path().to_owned();
    let lease = Lease::of(&state.budget);
    let reply = match route(&state, request, &lease, &path).await {
        Ok(reply) => reply,
        Err(refusal) => Status::from(&refusal).into_http(),
    };
    // The status of a message that was answered is in the trailers, and is success.
    let code = reply.headers().get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("0");
    state.metrics.request("grpc", code);
    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
    tracing::debug!(protocol = "grpc", path, status = code, milliseconds, "request");
    Ok(reply)
}

/// Runs a method.
async fn unary<I, O, T>(
    state: &State,
    request: Request<Incoming>,
    lease: &Arc<Lease>,
    method: impl FnMut(I) -> T,
) -> Result<Reply, Refusal>
where
    I: Message + Default + 'static,
    O: Message + 'static,
    T: Future<Output = Result<O, Refusal>> + Send + 'static,
{
    let limits = &state.options.limits;
    let (parts, body) = request.into_parts();
    let limit = limits.body_bytes + OVERHEAD;
    let body = Guarded::new(body, lease.clone(), limit, limits.request)?;
    let body = body.map_err(|refusal| Status::from(&refusal));
    let mut grpc = Grpc::new(ProstCodec::<O, I>::default()).max_decoding_message_size(limit);
    Ok(grpc.unary(Unary(method), Request::from_parts(parts, body)).await)
}

async fn route(
    state: &Arc<State>,
    request: Request<Incoming>,
    lease: &Arc<Lease>,
    path: &str,
) -> Result<Reply, Refusal> {
    let method = path.strip_prefix(SERVICE).ok_or(Refusal::Method("POST"))?;
    let probe = matches!(method, "ServerLive" | "ServerReady");
    if !probe && state.options.keys.as_ref().is_some_and(|keys| !keys.open(request.headers())) {
        return Err(Refusal::NoKey);
    }
    let shared = state.clone();
    match method {
        "ServerLive" => unary(state, request, lease, async |_: Empty| Ok(Yes { yes: true })).await,
        "ServerReady" => {
            let yes = state.is_ready();
            unary(state, request, lease, move |_: Empty| async move { Ok(Yes { yes }) }).await
        }
        "ModelReady" => {
            unary(state, request, lease, move |model| {
                let ready = is_ready(&shared, &model);
                async { ready }
            })
            .await
        }
        "ServerMetadata" => unary(state, request, lease, async |_: Empty| Ok(server_metadata())).await,
        "ModelMetadata" => {
            unary(state, request, lease, move |model| {
                let metadata = metadata(&shared, &model);
                async { metadata }
            })
            .await
        }
        "ModelConfig" => {
            unary(state, request, lease, move |model| {
                let config = config(&shared, &model);
                async { config }
            })
            .await
        }
        "RepositoryIndex" => {
            unary(state, request, lease, move |_: Empty| {
                let index = index(&shared);
                async { Ok(index) }
            })
            .await
        }
        "ModelInfer" => {
            let of_method = lease.clone();
            unary(state, request, lease, move |message| infer(shared.clone(), of_method.clone(), message))
                .await
        }
        _ => Err(Refusal::Method("POST")),
    }
}

fn is_ready(state: &State, model: &ModelName) -> Result<Yes, Refusal> {
    match state.model(&model.name, Some(&model.version)) {
        Ok(_) => Ok(Yes { yes: true }),
        Err(Refusal::Loading) => Ok(Yes { yes: false }),
        Err(refusal) => Err(refusal),
    }
}

fn server_metadata() -> ServerMetadata {
    ServerMetadata {
        name: v2::SERVER.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: v2::EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

fn metadata(state: &State, model: &ModelName) -> Result<ModelMetadata, Refusal> {
    let (slot, model) = state.model(&model.name, Some(&model.version))?;
    let tensor = |name: &str, shape: Vec<i64>| {
        vec![TensorMetadata { name: name.to_owned(), datatype: v2::FP32.to_owned(), shape }]
    };
    let image = model.image_shape().map(|extent| extent as i64);
    Ok(ModelMetadata {
        name: state.slots[slot].name().to_owned(),
        versions: vec![VERSION.to_owned()],
        platform: v2::PLATFORM.to_owned(),
        inputs: tensor(v2::INPUT, [&[-1][..], &image].concat()),
        outputs: tensor(v2::OUTPUT, vec![-1, model.classifier.num_classes() as i64]),
    })
}

fn config(state: &State, model: &ModelName) -> Result<ModelConfigResponse, Refusal> {
    let (slot, model) = state.model(&model.name, Some(&model.version))?;
    let input = ConfigInput {
        name: v2::INPUT.to_owned(),
        data_type: Config::FP32,
        format: Config::NCHW,
        dims: model.image_shape().map(|extent| extent as i64).to_vec(),
    };
    let output = ConfigOutput {
        name: v2::OUTPUT.to_owned(),
        data_type: Config::FP32,
        dims: vec![model.classifier.num_classes() as i64],
    };
    let config = Config {
        name: state.slots[slot].name().to_owned(),
        platform: v2::PLATFORM.to_owned(),
        max_batch_size: i32::try_from(state.options.limits.pictures).unwrap_or(i32::MAX),
        input: vec![input],
        output: vec![output],
        backend: v2::SERVER.to_owned(),
    };
    Ok(ModelConfigResponse { config: Some(config) })
}

fn index(state: &State) -> RepositoryIndexResponse {
    let entry = |slot: &crate::models::Slot| {
        let (now, reason) = slot.state();
        let [name, version, state, reason] = [slot.name(), VERSION, now, reason].map(str::to_owned);
        IndexEntry { name, version, state, reason }
    };
    RepositoryIndexResponse { models: state.slots.iter().map(entry).collect() }
}

/// The tensors of a request, whose values are with them or beside them.
fn tensors(inputs: Vec<InputTensor>, raw: Vec<Bytes>) -> Result<Vec<Tensor>, Refusal> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        return Err(Refusal::invalid("raw_input_contents has one element for each input"));
    }
    let mut raw = raw.into_iter();
    let tensor = |input: InputTensor| {
        let values = match (raw.next(), input.contents) {
            (Some(bytes), None) => Values::Raw(bytes),
            (Some(_), Some(_)) => {
                return Err(Refusal::invalid(
                    "values are in `contents` or in raw_input_contents, not in both",
                ));
            }
            (None, Some(Contents { fp32, bytes })) if bytes.is_empty() => Values::Floats(fp32),
            (None, Some(Contents { bytes, .. })) => Values::Strings(bytes),
            (None, None) => Values::Floats(Vec::new()),
        };
        Ok(Tensor { name: input.name, datatype: input.datatype, shape: input.shape, values })
    };
    inputs.into_iter().map(tensor).collect()
}

async fn infer(
    state: Arc<State>,
    lease: Arc<Lease>,
    request: ModelInferRequest,
) -> Result<ModelInferResponse, Refusal> {
    let start = Instant::now();
    let (slot, model) = state.model(&request.model_name, Some(&request.model_version))?;
    let raw = !request.raw_input_contents.is_empty();
    let classes = match &request.outputs[..] {
        [] => None,
        [output] => {
            v2::check_output(&output.name)?;
            let choice =
                output.parameters.get("classification").and_then(|parameter| parameter.choice.as_ref());
            let classes = match choice {
                Some(Choice::Int64(classes)) => usize::try_from(*classes).ok(),
                Some(_) => return Err(Refusal::invalid("`classification` is an int64_param")),
                None => None,
            };
            classes.filter(|&classes| classes > 0)
        }
        _ => return Err(Refusal::invalid("one output can be asked for")),
    };
    let tensors = tensors(request.inputs, request.raw_input_contents)?;
    let inputs = v2::inputs(tensors, &model, &state.options.limits)?;
    let outcomes = state.submit(slot, &model, inputs, Some(&lease))?.outcomes().await;
    let output = v2::Output::new(&model, &v2::all(outcomes)?, classes);
    let served_as = state.slots[slot].name();
    // In the form in which the client sent its own.
    let raw_output_contents = if raw { vec![output.raw().into()] } else { Vec::new() };
    let contents = (!raw).then(|| match output.values {
        OutputValues::Floats(fp32) => Contents { fp32, bytes: Vec::new() },
        OutputValues::Strings(strings) => {
            Contents { fp32: Vec::new(), bytes: strings.into_iter().map(Bytes::from).collect() }
        }
    });
    let tensor = OutputTensor {
        name: v2::OUTPUT.to_owned(),
        datatype: output.datatype.to_owned(),
        shape: output.shape,
        contents,
    };
    state.metrics.answered(served_as, "grpc", start.elapsed());
    Ok(ModelInferResponse {
        model_name: served_as.to_owned(),
        model_version: VERSION.to_owned(),
        id: request.id,
        outputs: vec![tensor],
        raw_output_contents,
    })
}
