//! Which texts a network computes together. Pure.

/// So many texts at most, …
const TEXTS: usize = 32;
/// … and so many tokens, with what the shorter ones are padded by: what is in flight needs some 20 kB a token.
const TOKENS: usize = 8192;

/// Returns the texts of each batch, by where their `lengths` in tokens stand: texts of like lengths together, so that
/// padding is little. A text that is longer than a batch has one for itself.
pub(crate) fn batches(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|at| lengths[*at]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for at in order {
        match batches.last_mut() {
            // It is the longest so far.
            Some(batch) if batch.len() < TEXTS && (batch.len() + 1) * lengths[at] <= TOKENS => {
                batch.push(at);
            }
            _ => batches.push(vec![at]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_text_is_in_one_batch_that_is_not_too_large(
            lengths in prop::collection::vec(prop_oneof![0_usize..600, Just(9000)], 0..300),
        ) {
            let batches = batches(&lengths);
            let mut all = batches.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
            for batch in &batches {
                let longest = batch.iter().map(|at| lengths[*at]).max().unwrap();
                prop_assert!(!batch.is_empty() && batch.len() <= TEXTS);
                prop_assert!(batch.len() == 1 || batch.len() * longest <= TOKENS);
            }
            let ends = |batch: &Vec<usize>| (lengths[batch[0]], lengths[batch[batch.len() - 1]]);
            prop_assert!(batches.windows(2).all(|pair| ends(&pair[0]).1 <= ends(&pair[1]).0));
        }
    }
}
