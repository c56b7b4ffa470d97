//! Exact dot products over one collection's vectors. Pure.

use super::Slots;

/// Vectors of one dimension, by slot, one after the other in memory.
#[derive(Debug, Default)]
pub(crate) struct Dense {
    dimension: usize,
    rows: Vec<f32>,
}

impl Dense {
    /// Puts a vector in a slot; what is kept is its direction.
    pub(crate) fn insert(&mut self, slot: u32, vector: &[f32]) {
        if self.dimension != vector.len() {
            // A collection takes another model only when it is empty.
            debug_assert!(
                self.rows.iter().all(|number| *number == 0.0),
                "a collection has one model"
            );
            self.dimension = vector.len();
            self.rows.clear();
        }
        let start = slot as usize * self.dimension;
        if self.rows.len() < start + self.dimension {
            self.rows.resize(start + self.dimension, 0.0);
        }
        let row = &mut self.rows[start..start + self.dimension];
        row.copy_from_slice(vector);
        crate::embed::normalise(row);
    }

    /// Empties a slot: its score is 0 with any query.
    pub(crate) fn remove(&mut self, slot: u32) {
        let start = slot as usize * self.dimension;
        if let Some(row) = self.rows.get_mut(start..start + self.dimension) {
            row.fill(0.0);
        }
    }

    /// Returns every slot's cosine with `query`, zero for one that is not `among`.
    pub(super) fn scores(&self, query: &[f32], among: Option<&Slots>) -> Vec<f32> {
        if self.dimension == 0 {
            return Vec::new();
        }
        let Some(among) = among else {
            return self.rows.chunks_exact(self.dimension).map(|row| dot(row, query)).collect();
        };
        let mut scores = vec![0.0; self.rows.len() / self.dimension];
        for slot in among.iter() {
            let start = slot as usize * self.dimension;
            if let Some(row) = self.rows.get(start..start + self.dimension) {
                scores[slot as usize] = dot(row, query);
            }
        }
        scores
    }
}

/// Sixteen sums side by side, which the compiler turns into vector instructions.
fn dot(one: &[f32], other: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let (ones, others) = (one.chunks_exact(16), other.chunks_exact(16));
    let rest: f32 = ones.remainder().iter().zip(others.remainder()).map(|(a, b)| a * b).sum();
    for (one, other) in ones.zip(others) {
        for at in 0..16 {
            sums[at] += one[at] * other[at];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_was_emptied_takes_vectors_of_another_length() {
        let mut dense = Dense::default();
        dense.insert(3, &[1.0, 0.0]);
        dense.remove(3);
        dense.insert(0, &[0.0, 2.0, 0.0]);
        assert_eq!(dense.scores(&[0.0, 1.0, 0.0], None), [1.0]);
    }

    #[test]
    fn a_score_is_the_dot_product_also_past_sixteen() {
        let vector: Vec<f32> = (0..37_u8).map(f32::from).collect();
        let mut dense = Dense::default();
        dense.insert(1, &vector);
        let scores = dense.scores(&vector, None);
        assert!(scores[0] == 0.0 && (scores[1] - 16_206.0_f32.sqrt()).abs() < 1e-3, "{scores:?}");
        let among = |slot: u32| dense.scores(&vector, Some(&Slots::from_iter([slot])));
        assert_eq!((among(0), among(1), among(70)), (vec![0.0; 2], scores, vec![0.0; 2]));
        dense.remove(1);
        assert_eq!(dense.scores(&vector, None), [0.0, 0.0]);
    }
}
