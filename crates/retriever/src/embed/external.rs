//! Where an ONNX model has its weights, if not within: the part of
//! [onnx.proto](https://github.com/onnx/onnx/blob/v1.19.0/onnx/onnx.proto) that says so. Pure.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use prost::Message;

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Function>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    nodes: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    weights: Vec<Tensor>,
    #[prost(message, repeated, tag = "15")]
    sparse: Vec<Sparse>,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(message, repeated, tag = "7")]
    nodes: Vec<Node>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(message, optional, tag = "5")]
    tensor: Option<Tensor>,
    #[prost(message, optional, tag = "6")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
    #[prost(message, optional, tag = "22")]
    sparse: Option<Sparse>,
    #[prost(message, repeated, tag = "23")]
    sparses: Vec<Sparse>,
}

#[derive(Clone, PartialEq, Message)]
struct Sparse {
    #[prost(message, optional, tag = "1")]
    values: Option<Tensor>,
    #[prost(message, optional, tag = "2")]
    indices: Option<Tensor>,
}

#[derive(Clone, PartialEq, Message)]
struct Tensor {
    #[prost(message, repeated, tag = "13")]
    external: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// Returns the files that a model's weights are in, beside or below it, in the order of their names.
///
/// # Errors
/// What is wrong with it, if it is no ONNX model or names a file that is elsewhere.
pub(crate) fn files(model: &[u8]) -> Result<BTreeSet<String>, String> {
    let model = Model::decode(model).map_err(|fault| fault.to_string())?;
    let mut files = BTreeSet::new();
    let functions = model.functions.iter().flat_map(|function| &function.nodes);
    functions.for_each(|node| node.add(&mut files));
    model.graph.iter().for_each(|graph| graph.add(&mut files));
    let is_near = |file: &str| {
        let mut parts = Path::new(file).components();
        parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    };
    match files.iter().find(|file| !is_near(file)) {
        Some(file) => Err(format!("its weights are in {file:?}, which is not beside it")),
        None => Ok(files),
    }
}

impl Graph {
    fn add(&self, files: &mut BTreeSet<String>) {
        self.nodes.iter().for_each(|node| node.add(files));
        self.weights.iter().for_each(|tensor| tensor.add(files));
        self.sparse.iter().for_each(|sparse| sparse.add(files));
    }
}

impl Node {
    fn add(&self, files: &mut BTreeSet<String>) {
        for attribute in &self.attributes {
            attribute.tensor.iter().chain(&attribute.tensors).for_each(|one| one.add(files));
            attribute.sparse.iter().chain(&attribute.sparses).for_each(|one| one.add(files));
            attribute.graph.iter().chain(&attribute.graphs).for_each(|one| one.add(files));
        }
    }
}

impl Sparse {
    fn add(&self, files: &mut BTreeSet<String>) {
        self.values.iter().chain(&self.indices).for_each(|tensor| tensor.add(files));
    }
}

impl Tensor {
    fn add(&self, files: &mut BTreeSet<String>) {
        let places = self.external.iter().filter(|entry| entry.key == "location");
        files.extend(places.map(|entry| entry.value.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(file: &str) -> Tensor {
        let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
        Tensor { external: vec![entry("location", file), entry("offset", "4096")] }
    }

    #[test]
    fn every_file_with_weights_is_found_and_none_is_elsewhere() {
        let inner = Graph { weights: vec![weights("b/c.bin")], ..Graph::default() };
        let attribute =
            Attribute { tensor: Some(weights("d")), graphs: vec![inner], ..Attribute::default() };
        let nodes = vec![Node { attributes: vec![attribute] }];
        let weights = |file| vec![Tensor::default(), weights(file), weights("a.data")];
        let model = |file| {
            let (nodes, weights) = (nodes.clone(), weights(file));
            let graph = Graph { nodes, weights, ..Graph::default() };
            Model { graph: Some(graph), functions: Vec::new() }.encode_to_vec()
        };
        assert_eq!(
            files(&model("./e")).unwrap().into_iter().collect::<Vec<_>>(),
            ["./e", "a.data", "b/c.bin", "d"]
        );
        for file in ["/etc/passwd", "../e", "b/../../e"] {
            let told = files(&model(file)).unwrap_err();
            assert_eq!(told, format!("its weights are in {file:?}, which is not beside it"));
        }
        assert!(files(b"no model").is_err());
    }
}
