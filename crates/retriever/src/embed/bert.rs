//! BERT's encoder, as [Devlin et al., 2018](https://arxiv.org/abs/1810.04805) and the weights of Hugging Face's
//! `BertModel` have it: f32, without dropout. Pure.

use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::{SimdOp as _, SimdUnaryOp as _};
use rten_tensor::{Matrix, NdTensorView};
use rten_vecmath::{Gelu, Normalize, NormalizeOptions, Softmax, Sum, SumSquareSub};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Deserialize;

use super::Fault;

/// What `config.json` says of the network.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Shape {
    pub(crate) model_type: String,
    pub(crate) hidden_size: usize,
    pub(crate) max_position_embeddings: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    intermediate_size: usize,
    vocab_size: usize,
    hidden_act: String,
    #[serde(default = "epsilon")]
    layer_norm_eps: f32,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

fn epsilon() -> f32 {
    1e-12
}

fn absolute() -> String {
    "absolute".to_owned()
}

/// The network with its weights.
pub(crate) struct Bert {
    shape: Shape,
    words: Vec<f32>,
    positions: Vec<f32>,
    types: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

/// What makes one number of a text's first token: the pooler and the classifier of a model that was trained to
/// compare two texts.
pub(crate) struct Head {
    pooler: Linear,
    classifier: Linear,
}

/// A text's tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) tokens: &'a [u32],
    /// Of which of two texts each token is, 0 or 1; empty: all of the first.
    pub(crate) types: &'a [u32],
}

impl<'a> From<&'a [u32]> for Text<'a> {
    fn from(tokens: &'a [u32]) -> Self {
        Self { tokens, types: &[] }
    }
}

struct Layer {
    /// Query, key and value side by side.
    attention: Linear,
    joined: Linear,
    joined_norm: Norm,
    inner: Linear,
    outer: Linear,
    outer_norm: Norm,
}

/// `x · weights + bias`.
struct Linear {
    weights: PackedBMatrix<f32>,
    bias: Vec<f32>,
}

struct Norm {
    scale: Vec<f32>,
    bias: Vec<f32>,
    epsilon: f32,
}

impl std::fmt::Debug for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Head").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Bert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bert").field("shape", &self.shape).finish_non_exhaustive()
    }
}

impl Shape {
    /// Refuses what would be computed otherwise than the model means it.
    ///
    /// # Errors
    /// [`Fault::Model`] with what is not supported.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let wanted = [
            ("model_type", &self.model_type, "bert"),
            ("hidden_act", &self.hidden_act, "gelu"),
            ("position_embedding_type", &self.position_embedding_type, "absolute"),
        ];
        for (name, is, wanted) in wanted {
            if is != wanted {
                return Err(Fault::Model(format!(
                    "{name} is {is:?}, only {wanted:?} is supported"
                )));
            }
        }
        if self.num_attention_heads == 0
            || !self.hidden_size.is_multiple_of(self.num_attention_heads)
        {
            let (size, heads) = (self.hidden_size, self.num_attention_heads);
            return Err(Fault::Model(format!(
                "hidden_size {size} is no multiple of {heads} heads"
            )));
        }
        Ok(())
    }
}

impl Bert {
    /// Takes the weights out of a safetensors file.
    ///
    /// # Errors
    /// [`Fault::Model`] if a tensor is missing or of another shape or type.
    pub(crate) fn new(shape: Shape, file: &[u8]) -> Result<Self, Fault> {
        shape.check()?;
        let weights = Weights::new(&shape, file)?;
        let gemm = GemmExecutor::new();
        let hidden = shape.hidden_size;
        let embedding = |name: &str, rows| {
            weights.take(&format!("embeddings.{name}_embeddings.weight"), &[rows, hidden])
        };
        let mut layers = Vec::with_capacity(shape.num_hidden_layers);
        for at in 0..shape.num_hidden_layers {
            let name = |part: &str| format!("encoder.layer.{at}.{part}");
            let one =
                |part: &str, inputs, outputs| weights.linear(&gemm, &[name(part)], inputs, outputs);
            let three =
                ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
            layers.push(Layer {
                attention: weights.linear(&gemm, &three, hidden, hidden)?,
                joined: one("attention.output.dense", hidden, hidden)?,
                joined_norm: weights.norm(&name("attention.output.LayerNorm"), hidden)?,
                inner: one("intermediate.dense", hidden, shape.intermediate_size)?,
                outer: one("output.dense", shape.intermediate_size, hidden)?,
                outer_norm: weights.norm(&name("output.LayerNorm"), hidden)?,
            });
        }
        Ok(Self {
            words: embedding("word", shape.vocab_size)?,
            positions: embedding("position", shape.max_position_embeddings)?,
            types: weights.rows("embeddings.token_type_embeddings.weight", hidden)?,
            norm: weights.norm("embeddings.LayerNorm", hidden)?,
            layers,
            shape,
        })
    }

    /// Returns the last layer's vectors of every token of some texts, one text after the other:
    /// `[tokens][hidden]`. Texts are not padded, so one does not depend on the others.
    ///
    /// # Errors
    /// [`Fault::Failed`] for a token outside the vocabulary or a text that is longer than the model reads.
    pub(crate) fn forward(&self, texts: &[Text<'_>]) -> Result<Vec<f32>, Fault> {
        let hidden = self.shape.hidden_size;
        // It cannot be shared by threads, and costs nothing to make.
        let gemm = GemmExecutor::new();
        let count: usize = texts.iter().map(|text| text.tokens.len()).sum();
        let mut x = Vec::with_capacity(count * hidden);
        for (text, (token, position)) in
            texts.iter().flat_map(|text| text.tokens.iter().zip(0..).map(move |at| (text, at)))
        {
            let kind = text.types.get(position).copied().unwrap_or_default();
            let (Some(word), Some(place), Some(kind)) = (
                row(&self.words, *token as usize, hidden),
                row(&self.positions, position, hidden),
                row(&self.types, kind as usize, hidden),
            ) else {
                let told = format!("token {token} at {position} is not one that the model knows");
                return Err(Fault::Failed(told));
            };
            let sums = word.iter().zip(place).zip(kind).map(|((w, p), t)| w + p + t);
            x.extend(sums);
        }
        self.norm.apply(&mut x);
        for layer in &self.layers {
            let mut joined = layer.joined.apply(&gemm, &self.attend(&gemm, layer, &x, texts)?)?;
            add(&mut joined, &x);
            layer.joined_norm.apply(&mut joined);
            let mut inner = layer.inner.apply(&gemm, &joined)?;
            Gelu {}.map_mut(&mut inner);
            x = layer.outer.apply(&gemm, &inner)?;
            add(&mut x, &joined);
            layer.outer_norm.apply(&mut x);
        }
        Ok(x)
    }

    /// Lets each text's tokens look at one another.
    fn attend(
        &self,
        gemm: &GemmExecutor,
        layer: &Layer,
        x: &[f32],
        texts: &[Text<'_>],
    ) -> Result<Vec<f32>, Fault> {
        let (hidden, heads) = (self.shape.hidden_size, self.shape.num_attention_heads);
        let size = hidden / heads;
        let all = layer.attention.apply(gemm, x)?;
        let mut seen = vec![0.0; x.len()];
        let (mut weights, mut mixed) = (Vec::new(), Vec::new());
        let mut start = 0;
        for text in texts {
            let length = text.tokens.len();
            weights.resize(length * length, 0.0);
            mixed.resize(length * size, 0.0);
            let part = |which: usize, head: usize| -> Result<Matrix<'_>, Fault> {
                let first = start * 3 * hidden + which * hidden + head * size;
                let (shape, strides) = ([length, size], [3 * hidden, 1]);
                NdTensorView::from_data_with_strides(shape, &all[first..], strides).map_err(broken)
            };
            for head in 0..heads {
                let (query, key, value) = (part(0, head)?, part(1, head)?, part(2, head)?);
                let scaled =
                    GemmOptions { alpha: (size as f32).sqrt().recip(), ..Default::default() };
                let key = GemmInputB::Unpacked(key.transposed());
                let query = GemmInputA::Unpacked(query);
                gemm.gemm(&mut weights, query, key, scaled).map_err(broken)?;
                weights.chunks_exact_mut(length).for_each(|row| {
                    Softmax::new_mut(row).dispatch();
                });
                let looked = NdTensorView::from_data([length, length], weights.as_slice());
                let (looked, value) = (GemmInputA::Unpacked(looked), GemmInputB::Unpacked(value));
                gemm.gemm(&mut mixed, looked, value, GemmOptions::default()).map_err(broken)?;
                for (row, at) in mixed.chunks_exact(size).zip(start..) {
                    let first = at * hidden + head * size;
                    seen[first..first + size].copy_from_slice(row);
                }
            }
            start += length;
        }
        Ok(seen)
    }
}

impl Head {
    /// Takes the head out of a safetensors file.
    ///
    /// # Errors
    /// [`Fault::Model`] if a tensor is missing or of another shape or type.
    pub(crate) fn new(shape: &Shape, file: &[u8]) -> Result<Self, Fault> {
        let weights = Weights::new(shape, file)?;
        let (gemm, hidden) = (GemmExecutor::new(), shape.hidden_size);
        let one = |name: &str, outputs| weights.linear(&gemm, &[name.to_owned()], hidden, outputs);
        Ok(Self { pooler: one("pooler.dense", hidden)?, classifier: one("classifier", 1)? })
    }

    /// Returns one number for each text, whose first tokens' vectors stand one after the other:
    /// `[texts][hidden]`.
    ///
    /// # Errors
    /// [`Fault::Failed`] if they are of another size.
    pub(crate) fn apply(&self, first: &[f32]) -> Result<Vec<f32>, Fault> {
        let gemm = GemmExecutor::new();
        let mut pooled = self.pooler.apply(&gemm, first)?;
        pooled.iter_mut().for_each(|number| *number = number.tanh());
        self.classifier.apply(&gemm, &pooled)
    }
}

impl Linear {
    fn apply(&self, gemm: &GemmExecutor, x: &[f32]) -> Result<Vec<f32>, Fault> {
        let inputs = self.weights.rows();
        let rows = x.len() / inputs;
        let mut out = vec![0.0; rows * self.bias.len()];
        let bias = Some(BiasVector::Row(&self.bias));
        let x = GemmInputA::Unpacked(NdTensorView::from_data([rows, inputs], x));
        let weights = GemmInputB::Packed(&self.weights);
        let options = GemmOptions { bias, ..GemmOptions::default() };
        gemm.gemm(&mut out, x, weights, options).map_err(broken)?;
        Ok(out)
    }
}

impl Norm {
    /// Gives each row mean 0 and variance 1, and then its learnt scale and bias.
    fn apply(&self, x: &mut [f32]) {
        let size = self.scale.len();
        for row in x.chunks_exact_mut(size) {
            let mean = Sum::new(row).dispatch() / size as f32;
            let variance = SumSquareSub::new(row, mean).dispatch() / size as f32;
            let options = NormalizeOptions {
                pre_scale_bias: mean,
                scale: (variance + self.epsilon).sqrt().recip(),
                element_scale: Some(&self.scale),
                element_bias: Some(&self.bias),
                ..NormalizeOptions::default()
            };
            Normalize::new_mut(row, options).dispatch();
        }
    }
}

fn row(table: &[f32], at: usize, size: usize) -> Option<&[f32]> {
    table.get(at * size..(at + 1) * size)
}

fn add(x: &mut [f32], other: &[f32]) {
    x.iter_mut().zip(other).for_each(|(x, other)| *x += other);
}

fn broken(fault: impl std::fmt::Debug) -> Fault {
    Fault::Failed(format!("{fault:?}"))
}

/// The tensors of a file, by their names without the prefix that some files give them.
struct Weights<'a> {
    tensors: SafeTensors<'a>,
    epsilon: f32,
}

impl<'a> Weights<'a> {
    fn new(shape: &Shape, file: &'a [u8]) -> Result<Self, Fault> {
        let tensors = SafeTensors::deserialize(file)
            .map_err(|fault| Fault::Model(format!("model.safetensors: {fault}")))?;
        Ok(Self { tensors, epsilon: shape.layer_norm_eps })
    }
}

impl Weights<'_> {
    fn find(&self, name: &str) -> Result<TensorView<'_>, Fault> {
        let found =
            self.tensors.tensor(name).or_else(|_| self.tensors.tensor(&format!("bert.{name}")));
        found.map_err(|_| Fault::Model(format!("model.safetensors has no tensor {name:?}")))
    }

    fn take(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Fault> {
        let tensor = self.find(name)?;
        if tensor.shape() != shape {
            let is = tensor.shape();
            return Err(Fault::Model(format!(
                "tensor {name:?} is {is:?}, config.json says {shape:?}"
            )));
        }
        numbers(name, &tensor)
    }

    /// Takes however many rows there are, at least one.
    fn rows(&self, name: &str, size: usize) -> Result<Vec<f32>, Fault> {
        let rows = numbers(name, &self.find(name)?)?;
        if rows.len() < size || !rows.len().is_multiple_of(size) {
            let fault = format!("tensor {name:?} has {} numbers, no rows of {size}", rows.len());
            return Err(Fault::Model(fault));
        }
        Ok(rows)
    }

    /// Joins layers of the same input side by side. A file keeps `[outputs][inputs]`.
    fn linear(
        &self,
        gemm: &GemmExecutor,
        names: &[String],
        inputs: usize,
        outputs: usize,
    ) -> Result<Linear, Fault> {
        let (mut rows, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            rows.extend(self.take(&format!("{name}.weight"), &[outputs, inputs])?);
            bias.extend(self.take(&format!("{name}.bias"), &[outputs])?);
        }
        let matrix = NdTensorView::from_data([bias.len(), inputs], rows.as_slice());
        Ok(Linear { weights: gemm.prepack_b(matrix.transposed()), bias })
    }

    fn norm(&self, name: &str, size: usize) -> Result<Norm, Fault> {
        let of = |part| self.take(&format!("{name}.{part}"), &[size]);
        Ok(Norm { scale: of("weight")?, bias: of("bias")?, epsilon: self.epsilon })
    }
}

fn numbers(name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>, Fault> {
    match tensor.dtype() {
        Dtype::F32 => {
            Ok(tensor.data().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect())
        }
        Dtype::BF16 => {
            let wide =
                |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            Ok(tensor.data().as_chunks().0.iter().map(wide).collect())
        }
        other => {
            let fault = format!("tensor {name:?} is {other:?}, only F32 and BF16 are supported");
            Err(Fault::Model(fault))
        }
    }
}
