//! Every input that is kept goes through its target, whole, cut short, and with each of its first bytes changed.

use std::fs;
use std::path::Path;

use muster_fuzz::TARGETS;

/// Bytes at the front that are changed, one after another.
const CHANGED: usize = 64;

#[test]
fn every_kept_input_is_read_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(corpus.join(name)).expect("each target has a corpus") {
            let path = entry.expect("can be listed").path();
            let kept = fs::read(&path).expect("can be read");
            println!("{}", path.display());
            target(&kept);
            (0..kept.len().min(CHANGED)).for_each(|length| target(&kept[..length]));
            for at in 0..kept.len().min(CHANGED) {
                for change in [1, 0x80, 0xff] {
                    let mut bytes = kept.clone();
                    bytes[at] ^= change;
                    target(&bytes);
                }
            }
            count += 1;
        }
        assert!(count > 0, "{name} has no corpus");
    }
}

#[test]
fn every_corpus_has_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in fs::read_dir(corpus).expect("is there") {
        let name = entry.expect("can be listed").file_name();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{name:?} has no target");
    }
}
