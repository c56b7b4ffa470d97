//! Networks in ONNX, of any architecture. What computes them is ONNX Runtime, a library of the operator's that is
//! loaded by its path: nothing is linked, and nothing is downloaded.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session};
use ort::value::{Outlet, Tensor, TensorElementType};
use sha2::{Digest as _, Sha256};

use super::Fault;
use super::bert::Text;
use super::files::bytes;

/// A model is tried with a text of at most so many tokens: enough to notice when RoBERTa's 514 positions are taken for
/// 514 tokens, though they hold 512, and little enough for models with a long context.
const TRIED: usize = 1024;
/// What a library with Microsoft's telemetry holds, and what keeps it from being sent.
const TELEMETRY: &str = "events.data.microsoft.com";
const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";

/// A network with its weights, and what it is asked for.
pub(crate) struct Onnx {
    /// It computes one batch at a time, on all threads; who came first goes first.
    session: tokio::sync::Mutex<(Session, RunOptions<HasSelectedOutputs>)>,
    inputs: Vec<Input>,
    output: String,
    wanted: Wanted,
    padding: u32,
}

/// What a network is given of each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    Token,
    /// Whether it is one, and no padding.
    Mask,
    /// Of which of two texts it is.
    Type,
}

/// Where a network is.
#[derive(Debug)]
pub(crate) struct File {
    /// Within the model's directory.
    pub(crate) name: &'static str,
    path: PathBuf,
}

/// What a network is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    /// A vector of so many numbers for every token.
    Vectors(usize),
    /// One number for every text.
    Score,
}

/// What is known of a network beside its file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Tokens of the longest text.
    pub(crate) longest: usize,
    /// The token that stands where a text is shorter than another.
    pub(crate) padding: u32,
}

impl std::fmt::Debug for Onnx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { inputs, output, wanted, .. } = self;
        let mut shown = f.debug_struct("Onnx");
        shown.field("inputs", inputs).field("output", output).field("wanted", wanted);
        shown.finish_non_exhaustive()
    }
}

impl File {
    /// Finds a model's network: `onnx/model.onnx`, as Hugging Face has it, or `model.onnx`.
    pub(crate) fn find(directory: &Path) -> Self {
        let names = ["onnx/model.onnx", "model.onnx"];
        let name = names.into_iter().find(|name| directory.join(name).is_file());
        let name = name.unwrap_or(names[0]);
        Self { name, path: directory.join(name) }
    }

    /// Hashes the network and what its weights are in beside it.
    ///
    /// # Errors
    /// [`Fault::Model`] if one of them cannot be read, or is elsewhere.
    pub(crate) fn hash(&self, hash: &mut Sha256) -> Result<(), Fault> {
        let network = bytes(&self.path)?;
        hash.update(&network);
        let fault = |what: String| Fault::Model(format!("{}: {what}", self.name));
        let beside = self.path.parent().unwrap_or(Path::new(""));
        for file in super::external::files(&network).map_err(fault)? {
            let weights = std::fs::read(beside.join(&file));
            hash.update(weights.map_err(|told| fault(format!("its weights in {file}: {told}")))?);
        }
        Ok(())
    }
}

impl Onnx {
    /// Opens a network and tries it.
    ///
    /// # Errors
    /// [`Fault::Model`] if the library is none, is too old, sends telemetry, or is not the one that this process has
    /// already, or if the network takes or gives something else than what a text's tokens are and become.
    pub(crate) fn open(
        file: &File,
        library: &Path,
        threads: usize,
        wanted: Wanted,
        limits: Limits,
    ) -> Result<Self, Fault> {
        let environment = environment(library)?;
        let name = file.name;
        let told = |fault: ort::Error| Fault::Model(format!("{name}: {fault}"));
        let open = || -> ort::Result<Session> {
            Session::builder(&environment)?
                .with_intra_threads(threads)?
                // The cores are not the library's alone, …
                .with_intra_op_spinning(false)?
                // … and no two batches are of one shape.
                .with_memory_pattern(false)?
                .commit_from_file(&file.path)
        };
        let session = open().map_err(told)?;
        let fault = |what: String| Fault::Model(format!("{name}: {what}"));
        let inputs = inputs(session.inputs()).map_err(fault)?;
        let output = output(session.outputs(), wanted).map_err(fault)?;
        let selected = OutputSelector::no_default().with(&output);
        let options = RunOptions::new().map_err(told)?.with_outputs(selected);
        let session = tokio::sync::Mutex::new((session, options));
        let Limits { longest, padding } = limits;
        let network = Self { session, inputs, output, wanted, padding };
        let length = longest.min(TRIED);
        let tokens = vec![u32::from(padding == 0); length];
        let texts = [Text::from(&tokens[..1]), Text::from(&*tokens)];
        let mut session = network.session.try_lock().map_err(|told| fault(told.to_string()))?;
        network.compute(&mut session, &texts).map_err(|told| {
            fault(format!("it was tried with a text of {length} tokens and one of 1: {told}"))
        })?;
        drop(session);
        Ok(network)
    }

    /// Returns what is wanted of some texts, one after the other: the last layer's vectors of every token,
    /// `[tokens][hidden]`, or one number each. Shorter texts are padded to the longest. Not for a thread that others
    /// wait for.
    ///
    /// # Errors
    /// [`Fault::Failed`] if the library fails, or answers something of another shape.
    pub(crate) fn forward(&self, texts: &[Text<'_>]) -> Result<Vec<f32>, Fault> {
        self.compute(&mut self.session.blocking_lock(), texts)
    }

    fn compute(
        &self,
        (session, options): &mut (Session, RunOptions<HasSelectedOutputs>),
        texts: &[Text<'_>],
    ) -> Result<Vec<f32>, Fault> {
        let width = texts.iter().map(|text| text.tokens.len()).max().unwrap_or_default();
        if width == 0 {
            return Ok(Vec::new());
        }
        let failed = |fault: ort::Error| Fault::Failed(fault.to_string());
        let mut given = Vec::with_capacity(self.inputs.len());
        for input in &self.inputs {
            let mut values = Vec::with_capacity(texts.len() * width);
            for text in texts {
                values.extend((0..width).map(|at| input.value(*text, at, self.padding)));
            }
            let tensor = Tensor::from_array(([texts.len(), width], values)).map_err(failed)?;
            given.push((input.name(), tensor));
        }
        let outputs = session.run_with_options(given, options).map_err(failed)?;
        let (shape, numbers) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
        let wanted = match self.wanted {
            Wanted::Vectors(hidden) => vec![texts.len(), width, hidden],
            Wanted::Score => vec![texts.len(), 1],
        };
        if !shape.iter().copied().eq(wanted.iter().map(|size| *size as i64)) {
            let (output, is) = (&self.output, &**shape);
            return Err(Fault::Failed(format!(
                "its output {output:?} is {is:?} and not {wanted:?}"
            )));
        }
        let Wanted::Vectors(hidden) = self.wanted else { return Ok(numbers.to_vec()) };
        let count: usize = texts.iter().map(|text| text.tokens.len()).sum();
        let mut own = Vec::with_capacity(count * hidden);
        for (text, padded) in texts.iter().zip(numbers.chunks_exact(width * hidden)) {
            own.extend_from_slice(&padded[..text.tokens.len() * hidden]);
        }
        Ok(own)
    }
}

impl Input {
    const ALL: [Self; 3] = [Self::Token, Self::Mask, Self::Type];

    fn name(self) -> &'static str {
        match self {
            Self::Token => "input_ids",
            Self::Mask => "attention_mask",
            Self::Type => "token_type_ids",
        }
    }

    fn value(self, text: Text<'_>, at: usize, padding: u32) -> i64 {
        let is_there = at < text.tokens.len();
        match self {
            Self::Token => text.tokens.get(at).copied().unwrap_or(padding).into(),
            Self::Mask => is_there.into(),
            Self::Type => text.types.get(at).copied().unwrap_or_default().into(),
        }
    }
}

/// Refuses inputs that nothing is known for; without a mask, padding would be read as text.
fn inputs(has: &[Outlet]) -> Result<Vec<Input>, String> {
    let mut inputs = Vec::new();
    for outlet in has {
        let name = outlet.name();
        let input = Input::ALL.into_iter().find(|input| input.name() == name).ok_or_else(|| {
            let known = Input::ALL.map(Input::name).join(", ");
            format!("it has an input {name:?}, only {known} are supported")
        })?;
        let kind = outlet.dtype();
        if kind.tensor_type() != Some(TensorElementType::Int64) {
            return Err(format!("its input {name:?} is {kind}, only Tensor<i64> is supported"));
        }
        inputs.push(input);
    }
    let lacks = [Input::Token, Input::Mask].into_iter().find(|input| !inputs.contains(input));
    lacks.map_or(Ok(inputs), |input| Err(format!("it has no input {:?}", input.name())))
}

impl Wanted {
    /// The names that exports give such an output.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Vectors(_) => &["last_hidden_state", "token_embeddings"],
            Self::Score => &["logits"],
        }
    }

    /// Its last dimension, and what it stands for; and how many there are.
    fn shape(self) -> (usize, &'static str, usize) {
        match self {
            Self::Vectors(hidden) => (hidden, "texts, tokens", 3),
            Self::Score => (1, "texts", 2),
        }
    }
}

/// Returns the output that is wanted, by the names that exports give it or by its shape.
fn output(has: &[Outlet], wanted: Wanted) -> Result<String, String> {
    let (size, before, rank) = wanted.shape();
    let fits = |outlet: &&Outlet| {
        let kind = outlet.dtype();
        let is = kind.tensor_shape().map(|shape| shape.len());
        is == Some(rank) && kind.tensor_type() == Some(TensorElementType::Float32)
    };
    let named = |outlet: &&Outlet| wanted.names().contains(&outlet.name());
    let fitting = || has.iter().filter(fits);
    let Some(output) = fitting().find(named).or_else(|| fitting().next()) else {
        let has = has.iter().map(|outlet| format!("{:?}: {}", outlet.name(), outlet.dtype()));
        let has = has.collect::<Vec<_>>().join(", ");
        return Err(format!("it has no output Tensor<f32>({before}, {size}); it has {has}"));
    };
    let last = output.dtype().tensor_shape().and_then(|shape| shape.last().copied());
    match last.map(usize::try_from) {
        // Less than none: it is known when the network has run.
        Some(Ok(is)) if is != size => {
            let name = output.name();
            Err(format!("its output {name:?} is ({before}, {is}) and not ({before}, {size})"))
        }
        _ => Ok(output.name().to_owned()),
    }
}

/// Loads the library, or returns what was loaded: a process has one for good, which is the library's rule.
fn environment(library: &Path) -> Result<Environment, Fault> {
    static LOADED: Mutex<Option<(PathBuf, Environment)>> = Mutex::new(None);
    let fault = |what: String| Fault::Model(format!("onnxruntime {}: {what}", library.display()));
    // Found as the file that it is, and not where libraries are looked for.
    let path = library.canonicalize().map_err(|told| fault(told.to_string()))?;
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((other, environment)) = &*loaded {
        if *other != path {
            let other = other.display();
            return Err(fault(format!("this process has loaded {other}, and can have only one")));
        }
        return Ok(environment.clone());
    }
    refuse_telemetry(&path).map_err(fault)?;
    let builder = ort::init_from(&path).map_err(|told| fault(told.to_string()))?;
    let log = |level: LogLevel, _: &str, _: &str, place: &str, message: &str| match level {
        LogLevel::Verbose | LogLevel::Info => {}
        LogLevel::Warning => tracing::warn!(place, "ONNX Runtime: {message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!(place, "ONNX Runtime: {message}"),
    };
    let environment = builder.with_telemetry(false).with_logger(Arc::new(log)).build();
    let environment = environment.map_err(|told| fault(told.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    *loaded = Some((path, environment.clone()));
    Ok(environment)
}

/// Refuses a library with Microsoft's telemetry, which is known by the address that it holds, unless its own switch is
/// set: Microsoft's builds have it since 1.29, and ask the environment alone, before anybody can ask them
/// ([Privacy.md](https://github.com/microsoft/onnxruntime/blob/v1.32.0/docs/Privacy.md), November 2026).
#[allow(clippy::disallowed_methods, reason = "what the library reads of this process")]
fn refuse_telemetry(library: &Path) -> Result<(), String> {
    let file = std::fs::read(library).map_err(|told| told.to_string())?;
    let holds = |text: &str| memchr::memmem::find(&file, text.as_bytes()).is_some();
    if !holds(TELEMETRY) {
        return Ok(());
    }
    if !holds(NO_TELEMETRY) {
        return Err("it sends telemetry to Microsoft, and cannot be kept from it".to_owned());
    }
    if std::env::var(NO_TELEMETRY).is_ok_and(|value| value == "1") {
        return Ok(());
    }
    Err(format!("it sends telemetry to Microsoft unless the environment has {NO_TELEMETRY}=1"))
}
