//! Exact dot products over one collection's vectors. Pure.

use super::Slots;

/// How many vectors a block holds: a store that grows moves those of its last block at most.
const BLOCK: usize = 1024;

/// Vectors of one dimension, by slot, one after the other in memory within a block.
#[derive(Debug, Default)]
pub(crate) struct Dense {
    dimension: usize,
    blocks: Vec<Vec<f32>>,
}

impl Dense {
    /// Puts a vector in a slot; what is kept is its direction.
    pub(crate) fn insert(&mut self, slot: u32, vector: &[f32]) {
        if self.dimension != vector.len() {
            // A collection takes another model only when it is empty.
            debug_assert!(
                self.blocks.iter().flatten().all(|number| *number == 0.0),
                "a collection has one model"
            );
            self.dimension = vector.len();
            self.blocks.clear();
        }
        let (block, start) = self.place(slot);
        if self.blocks.len() <= block {
            self.blocks.resize_with(block + 1, Vec::new);
        }
        let block = &mut self.blocks[block];
        if block.len() < start + self.dimension {
            block.resize(start + self.dimension, 0.0);
        }
        let row = &mut block[start..start + self.dimension];
        row.copy_from_slice(vector);
        crate::embed::normalise(row);
    }

    /// Empties a slot: its score is 0 with any query.
    pub(crate) fn remove(&mut self, slot: u32) {
        let (block, start) = self.place(slot);
        let block = self.blocks.get_mut(block);
        if let Some(row) = block.and_then(|block| block.get_mut(start..start + self.dimension)) {
            row.fill(0.0);
        }
    }

    /// Returns the cosine of each of `slots` slots with `query`, zero for one that is not `among`; none where there are
    /// no vectors.
    pub(super) fn scores(&self, query: &[f32], slots: usize, among: Option<&Slots>) -> Vec<f32> {
        if self.dimension == 0 {
            return Vec::new();
        }
        let mut scores = vec![0.0; slots];
        match among {
            Some(among) => {
                for slot in among.iter() {
                    if let Some(row) = self.row(slot) {
                        scores[slot as usize] = dot(row, query);
                    }
                }
            }
            None => {
                for (some, block) in scores.chunks_mut(BLOCK).zip(&self.blocks) {
                    let rows = block.chunks_exact(self.dimension);
                    some.iter_mut().zip(rows).for_each(|(score, row)| *score = dot(row, query));
                }
            }
        }
        scores
    }

    /// Returns a slot's vector; slots at the end may have none.
    fn row(&self, slot: u32) -> Option<&[f32]> {
        let (block, start) = self.place(slot);
        self.blocks.get(block)?.get(start..start + self.dimension)
    }

    /// Returns in which block a slot's vector is, and where it begins there.
    fn place(&self, slot: u32) -> (usize, usize) {
        (slot as usize / BLOCK, slot as usize % BLOCK * self.dimension)
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
    fn slots_of_any_block_are_found_and_those_without_a_vector_are_not() {
        let far = 3 * BLOCK as u32 + 5;
        let mut dense = Dense::default();
        dense.insert(far, &[3.0, 4.0]);
        dense.remove(far + 1);
        let slots = far as usize + 2 * BLOCK;
        let mut wanted = vec![0.0; slots];
        wanted[far as usize] = 0.6;
        assert_eq!(dense.scores(&[1.0, 0.0], slots, None), wanted);
        let among = Slots::from_iter([0, far, slots as u32 - 1]);
        assert_eq!(dense.scores(&[1.0, 0.0], slots, Some(&among)), wanted);
    }

    #[test]
    fn one_that_was_emptied_takes_vectors_of_another_length() {
        let mut dense = Dense::default();
        dense.insert(3, &[1.0, 0.0]);
        dense.remove(3);
        dense.insert(0, &[0.0, 2.0, 0.0]);
        assert_eq!(dense.scores(&[0.0, 1.0, 0.0], 1, None), [1.0]);
    }

    #[test]
    fn a_score_is_the_dot_product_also_past_sixteen() {
        let vector: Vec<f32> = (0..37_u8).map(f32::from).collect();
        let mut dense = Dense::default();
        dense.insert(1, &vector);
        let scores = dense.scores(&vector, 2, None);
        assert!(scores[0] == 0.0 && (scores[1] - 16_206.0_f32.sqrt()).abs() < 1e-3, "{scores:?}");
        let among = |slot: u32| dense.scores(&vector, 2, Some(&Slots::from_iter([slot])));
        assert_eq!((among(0), among(1)), (vec![0.0; 2], scores));
        dense.remove(1);
        assert_eq!(dense.scores(&vector, 2, None), [0.0, 0.0]);
    }
}
