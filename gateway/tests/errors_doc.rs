//! `docs/errors.md` and the sources agree on the codes there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use muster_gateway::http::problem::Code;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All files under a folder, but for what was built or cached there.
pub fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if !path.is_dir() {
            found.push(path);
        } else if !path.ends_with("target") && !path.ends_with("__pycache__") {
            files(&path, found);
        }
    }
}

/// The Rust files under a folder, with what is in them; tests make up codes.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    let mut there = Vec::new();
    files(folder, &mut there);
    for path in there {
        let is_test = path.ends_with("tests.rs") || path.to_string_lossy().contains("_tests");
        if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
            let text = fs::read_to_string(&path).expect("text");
            let text = text.split("#[cfg(test)]").next().expect("a first part").to_owned();
            found.push((path, text));
        }
    }
}

fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs/errors.md")).expect("docs/errors.md");
    let mut codes = BTreeSet::new();
    for section in text.split("\n### ").skip(1) {
        let (code, paragraph) = section.split_once('\n').expect("a paragraph");
        assert!(paragraph.trim().len() > 40, "{code} says too little");
        assert!(codes.insert(code.to_owned()), "{code} is there twice");
    }
    codes
}

fn is_code(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The literal after each `code: "`, and every one that looks like a code in files named `error.rs`, where the agent
/// maps its errors to codes.
fn told(list: &[(PathBuf, String)]) -> BTreeSet<String> {
    let mut codes = BTreeSet::new();
    for (path, text) in list {
        let literals = text.split("code: \"").skip(1).map(|rest| rest.split('"').next());
        codes.extend(literals.flatten().filter(|code| is_code(code)).map(str::to_owned));
        if path.ends_with("agent/src/container/error.rs") || path.ends_with("agent/src/data/mod.rs")
        {
            let literals = text.split('"').skip(1).step_by(2);
            let shaped = literals.filter(|text| is_code(text) && text.contains('_'));
            codes.extend(shaped.map(str::to_owned));
        }
    }
    codes
}

#[test]
fn every_code_has_its_paragraph_and_every_paragraph_its_code() {
    let mut list = Vec::new();
    for folder in ["gateway/src", "agent/src"] {
        sources(&root().join(folder), &mut list);
    }
    let documented = documented();
    let mut known: BTreeSet<String> = Code::ALL.iter().map(|code| code.name().to_owned()).collect();
    known.extend(told(&list));
    let missing: Vec<_> = known.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/errors.md lacks {missing:?}");
    for code in &documented {
        let literal = format!("\"{code}\"");
        let used = known.contains(code) || list.iter().any(|(_, text)| text.contains(&literal));
        assert!(used, "docs/errors.md has {code}, which nothing tells");
    }
}
