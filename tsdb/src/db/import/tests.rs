use tempfile::TempDir;

use super::*;
use crate::compact::testing::{Model, labels, model, read_block};

const HOUR: i64 = 3_600_000;
const START: i64 = 1_700_000_000_000 / (18 * HOUR) * (18 * HOUR);

#[test]
fn a_block_holds_what_was_added() {
    let dir = TempDir::new().unwrap();
    let all = model(5, START + 60_000..START + 2 * HOUR, 15_000);
    let mut builder = BlockBuilder::new(2 * HOUR);
    for (labels, samples) in &all {
        for (&t, &v) in samples {
            builder.append(labels, t, f64::from_bits(v)).unwrap();
        }
    }
    let meta = builder.write(dir.path(), 7).unwrap().unwrap();
    assert_eq!((meta.min_time, meta.max_time), (START + 60_000, START + 2 * HOUR - 15_000 + 1));
    assert_eq!((meta.compaction.level, meta.stats.num_series), (1, 5));
    assert_eq!(meta.stats.num_samples, all.values().map(|samples| samples.len() as u64).sum::<u64>());
    assert_eq!(read_block(&dir.path().join(meta.ulid.to_string())), all);
    assert_eq!(BlockBuilder::new(HOUR).write(dir.path(), 7).unwrap(), None, "no samples, no block");
}

/// What promtool does: refused are samples older than an earlier batch; within one they are left out.
#[test]
fn order_matters_between_batches() {
    let one = labels(&[("__name__", "one")]);
    let mut builder = BlockBuilder::new(HOUR);
    for (t, v) in [(10, 1.0), (30, 3.0), (20, 2.0), (30, 4.0), (40, 5.0)] {
        assert_eq!(builder.append(&one, t, v), Ok(()));
    }
    builder.commit();
    assert_eq!(builder.append(&one, 39, 1.0), Err(Refusal::OutOfOrder));
    assert_eq!(builder.append(&one, 40, 1.0), Err(Refusal::Duplicate { t: 40, existing: 5.0, new: 1.0 }));
    assert_eq!(builder.append(&one, 40, 5.0), Ok(()));
    assert_eq!(builder.append(&one, 50, 6.0), Ok(()));
    assert_eq!(builder.append(&one, 45, 6.0), Ok(()));
    assert_eq!(builder.append(&Labels::empty(), 45, 6.0), Err(Refusal::NoLabels));
    let dir = TempDir::new().unwrap();
    let meta = builder.write(dir.path(), 7).unwrap().unwrap();
    let samples = [(10, 1.0_f64), (30, 3.0), (40, 5.0), (50, 6.0)].map(|(t, v)| (t, v.to_bits()));
    let expected: Model = [(one, samples.into())].into();
    assert_eq!(read_block(&dir.path().join(meta.ulid.to_string())), expected);
}
