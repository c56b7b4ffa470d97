//! Questions by their vectors, in this process's memory.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::words;
use crate::cache::key::Key;

/// The most numbers that a vector may have.
const LONGEST: usize = 8_192;

/// What a question takes besides its vector and its text, about.
const OVERHEAD: usize = 256;

/// So many of the nearest are looked at for their words.
const LOOKED_AT: usize = 4;

/// A direction, and who measured it: only those of one model can be compared.
#[derive(Debug, Clone)]
pub(crate) struct Vector {
    by: String,
    /// Of length 1.
    values: Box<[f32]>,
}

impl Vector {
    /// Reads the first vector of an answer of embeddings, if it has one and that a direction.
    pub(crate) fn read(by: String, answer: &Value) -> Option<Self> {
        let values = answer.pointer("/data/0/embedding")?.as_array()?;
        let values: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
        Self::new(by, &values?)
    }

    fn new(by: String, values: &[f64]) -> Option<Self> {
        let length = values.iter().map(|value| value * value).sum::<f64>().sqrt();
        if values.len() > LONGEST || !length.is_finite() || length <= 0.0 {
            return None;
        }
        // No more precise than providers are.
        let values = values.iter().map(|value| (value / length) as f32).collect();
        Some(Self { by, values })
    }

    /// Returns the cosine of the angle between two, if one model measured both.
    fn similarity(&self, other: &Self) -> Option<f64> {
        if self.by != other.by || self.values.len() != other.values.len() {
            return None;
        }
        let product = self.values.iter().zip(&other.values).map(|(a, b)| f64::from(a * b));
        Some(product.sum::<f64>().min(1.0))
    }
}

/// A question that was answered.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) text: String,
    pub(crate) vector: Vector,
    /// Where its answer is.
    pub(crate) answer: Key,
    /// In milliseconds since 1970.
    pub(crate) until_ms: i64,
}

impl Asked {
    fn bytes(&self) -> usize {
        self.vector.values.len() * size_of::<f32>() + self.text.len() + OVERHEAD
    }
}

/// Questions by their scope: all of a call but its question.
pub(crate) struct Index {
    scopes: moka::sync::Cache<Key, Arc<[Arc<Asked>]>>,
    max_questions: usize,
}

impl Index {
    /// Opens one of so many bytes, and so many questions a scope.
    pub(crate) fn new(max_bytes: u64, max_questions: usize, ttl: Duration) -> Self {
        let weigh = |_: &Key, asked: &Arc<[Arc<Asked>]>| {
            let bytes: usize = asked.iter().map(|asked| asked.bytes()).sum();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let scopes = moka::sync::Cache::builder().max_capacity(max_bytes).weigher(weigh);
        Self { scopes: scopes.time_to_live(ttl).build(), max_questions }
    }

    /// Notes a question that was answered. The oldest of its scope makes room.
    pub(crate) fn keep(&self, scope: Key, asked: Asked, now_ms: i64) {
        let asked = Arc::new(asked);
        self.scopes.entry(scope).and_upsert_with(|before| {
            let before = before.map(|before| before.into_value()).unwrap_or_default();
            let good = |one: &&Arc<Asked>| one.until_ms > now_ms && one.answer != asked.answer;
            let good: Vec<_> = before.iter().filter(good).cloned().collect();
            let spare = (good.len() + 1).saturating_sub(self.max_questions);
            good.into_iter().skip(spare).chain([Arc::clone(&asked)]).collect()
        });
    }

    /// Returns the answer of the nearest question that may mean the same, and how near it is; none
    /// that is farther than `threshold`.
    pub(crate) fn nearest(
        &self,
        scope: &Key,
        text: &str,
        vector: &Vector,
        threshold: f64,
        now_ms: i64,
    ) -> Option<(Key, f64)> {
        let asked = self.scopes.get(scope)?;
        let near = asked.iter().filter(|one| one.until_ms > now_ms).filter_map(|one| {
            let similarity = one.vector.similarity(vector)?;
            (similarity >= threshold).then_some((one, similarity))
        });
        let mut near: Vec<_> = near.collect();
        near.sort_by(|a, b| b.1.total_cmp(&a.1));
        near.truncate(LOOKED_AT);
        let (one, similarity) =
            near.into_iter().find(|(one, _)| words::may_mean_the_same(&one.text, text))?;
        Some((one.answer, similarity))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn vector(values: &[f64]) -> Vector {
        Vector::new("p/m".to_owned(), values).unwrap()
    }

    fn asked(number: u8, text: &str, values: &[f64]) -> Asked {
        Asked { text: text.to_owned(), vector: vector(values), answer: [number; 32], until_ms: 100 }
    }

    /// Returns the number of the answer that a question gets.
    fn answer(index: &Index, scope: u8, text: &str, values: &[f64], now_ms: i64) -> Option<u8> {
        let nearest = index.nearest(&[scope; 32], text, &vector(values), 0.95, now_ms);
        nearest.map(|(answer, _)| answer[0])
    }

    #[test]
    fn the_nearest_that_may_mean_the_same_answers() {
        let index = Index::new(1_000_000, 10, LONG);
        index.keep([0; 32], asked(1, "how is the weather", &[1.0, 0.1]), 0);
        index.keep([0; 32], asked(2, "tell me how is the weather", &[2.0, 0.0]), 0);
        index.keep([0; 32], asked(3, "how was the weather", &[1.0, 0.01]), 0);
        index.keep([0; 32], asked(4, "how is the weather", &[0.5, 1.0]), 0);
        let ask = |values: &[f64]| answer(&index, 0, "How is the weather?", values, 0);
        assert_eq!(ask(&[1.0, 0.0]), Some(2));
        assert_eq!(ask(&[1.0, 0.09]), Some(1));
        assert_eq!(ask(&[1.0, 0.01]), Some(2), "the nearest says was");
        assert_eq!(ask(&[0.0, -1.0]), None, "nobody is near");
        assert_eq!(ask(&[1.0, 0.0, 0.0]), None, "another length is another model's");
        assert_eq!(answer(&index, 1, "How is the weather?", &[1.0, 0.0], 0), None);
        assert_eq!(answer(&index, 0, "How is the weather?", &[1.0, 0.0], 100), None, "its time");
        let other = Vector::new("p/other".to_owned(), &[1.0, 0.0]).unwrap();
        assert!(index.nearest(&[0; 32], "how is the weather", &other, 0.9, 0).is_none());
    }

    #[test]
    fn a_scope_has_so_many_questions_and_all_so_many_bytes() {
        let index = Index::new(1_000_000, 2, LONG);
        for number in 1..=3 {
            index.keep([0; 32], asked(number, "q", &[f64::from(number), 4.0]), 0);
        }
        // Again, with another vector: in the place of the first.
        index.keep([0; 32], asked(3, "q", &[0.0, -1.0]), 0);
        index.keep([0; 32], asked(4, "q", &[0.0, 1.0]), 0);
        let answers = [[1.0, 4.0], [2.0, 4.0], [3.0, 4.0], [0.0, -1.0], [0.0, 1.0]];
        let answers = answers.map(|values| {
            let near = index.nearest(&[0; 32], "q", &vector(&values), 0.999_999, 0);
            near.map(|(answer, _)| answer[0])
        });
        assert_eq!(answers, [None, None, None, Some(3), Some(4)]);

        let small = Index::new(20_000, 100, LONG);
        for scope in 0..100 {
            small.keep([scope; 32], asked(1, &"q".repeat(1_000), &[1.0, 0.0]), 0);
            small.scopes.run_pending_tasks();
            assert!(small.scopes.weighted_size() <= 20_000);
        }
    }

    #[test]
    fn what_is_no_vector_is_not_read_as_one() {
        let read = |answer: &Value| Vector::read("p/m".to_owned(), answer);
        let with = |vector: Value| json!({ "data": [{ "index": 0, "embedding": vector }] });
        assert_eq!(read(&with(json!([3, 4.0]))).unwrap().values.as_ref(), [0.6, 0.8]);
        for vector in [json!("AACAPw=="), json!([1, "2"]), json!([1, null]), json!([]), Value::Null]
        {
            assert!(read(&with(vector.clone())).is_none(), "{vector}");
        }
        assert!(read(&json!({ "data": [] })).is_none());
    }

    #[test]
    fn what_has_no_direction_is_no_vector() {
        for values in [&[][..], &[0.0, 0.0], &[f64::NAN], &[f64::INFINITY], &[f64::MAX, f64::MAX]] {
            assert!(Vector::new(String::new(), values).is_none(), "{values:?}");
        }
        assert!(Vector::new(String::new(), &vec![1.0; LONGEST + 1]).is_none());
    }
}
