//! The vectors in `vectors/`, which the Python suite runs too.

use std::path::Path;

use bytes::{Bytes, BytesMut};
use muster_wire::batch::{Inputs, Outputs, OutputsBuilder, Status};
use muster_wire::frame::Decoder;
use muster_wire::message::ExceptionHead;
use muster_wire::print::Print;
use muster_wire::results::Record;
use muster_wire::{MAX_FRAME, WireError};
use serde_json::{Value, json};

#[test]
fn frames_are_cut_as_the_vectors_say() {
    run("frames", |bytes, vector| {
        let limit = vector["limit"].as_u64().map_or(MAX_FRAME, |limit| limit as usize);
        let mut decoder = Decoder::new(limit);
        decoder.push(&bytes);
        let mut frames = Vec::new();
        let mut encoded = BytesMut::new();
        while let Some(frame) = decoder.next_frame()? {
            frame.encode(&mut encoded);
            frames.push(
                json!({"kind": frame.kind as u8, "seq": frame.seq, "body": hex(&frame.body)}),
            );
        }
        let rest = decoder.rest();
        encoded.extend_from_slice(&rest);
        Ok((json!({"frames": frames, "rest": rest.len()}), encoded.freeze()))
    });
}

#[test]
fn inputs_are_read_as_the_vectors_say() {
    run("inputs", |bytes, _| {
        let inputs = Inputs::decode(bytes)?;
        let items: Vec<String> = inputs.iter().map(|(_, item)| hex(&item)).collect();
        let decoded = json!({"first": inputs.first, "attempt": inputs.attempt, "items": items});
        Ok((decoded, inputs.to_frame().body))
    });
}

#[test]
fn outputs_are_read_as_the_vectors_say() {
    run("outputs", |bytes, _| {
        let outputs = Outputs::decode(bytes)?;
        let mut again = OutputsBuilder::new(outputs.first, outputs.attempt);
        let mut list = Vec::new();
        for (_, status, item) in outputs.iter() {
            again.push(status, &item);
            list.push(json!({"status": status as u8, "item": hex(&item)}));
        }
        let decoded = json!({"first": outputs.first, "attempt": outputs.attempt, "outputs": list});
        Ok((decoded, again.finish().to_frame().body))
    });
}

#[test]
fn prints_are_read_as_the_vectors_say() {
    run("print", |bytes, _| {
        let print = Print::decode(bytes)?;
        let decoded = json!({
            "index": print.index, "attempt": print.attempt, "stream": print.stream as u8,
            "bytes": hex(&print.bytes),
        });
        Ok((decoded, print.to_frame().body))
    });
}

#[test]
fn results_are_read_as_the_vectors_say() {
    run("results", |bytes, _| {
        let mut bytes = bytes.into();
        let mut records = Vec::new();
        let mut encoded = BytesMut::new();
        while let Some(record) = Record::take(&mut bytes)? {
            record.encode(&mut encoded);
            records.push(json!({
                "index": record.index, "count": record.count, "out_end": record.out_end, "err_end": record.err_end,
                "status": record.status as u8, "items": hex(&record.items.joined()),
            }));
        }
        Ok((Value::Array(records), encoded.freeze()))
    });
}

#[test]
fn exceptions_are_read_as_the_vectors_say() {
    run("exception", |bytes, _| {
        let head = ExceptionHead::of_item(&bytes)?;
        let length = u32::from_le_bytes(bytes[..4].try_into().expect("of_item read it"));
        let decoded = json!({
            "type": head.kind, "message": head.message, "traceback": head.traceback,
            "detail": hex(&bytes[4 + length as usize..]),
        });
        // JSON may be written in many ways, so only its reading is compared.
        Ok((decoded, bytes))
    });
}

#[test]
fn an_output_has_the_status_of_its_number() {
    assert_eq!(Status::from_u8(2), Some(Status::Failure));
    assert_eq!(Status::from_u8(3), None);
}

/// Decodes each vector of a file; what is decoded must be as written there, and give the same bytes again.
fn run(file: &str, decode: impl Fn(Bytes, &Value) -> Result<(Value, Bytes), WireError>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(format!("{file}.json"));
    let text = std::fs::read_to_string(&path).expect("the vectors are there");
    let vectors: Vec<Value> = serde_json::from_str(&text).expect("vectors are JSON");
    assert!(!vectors.is_empty());
    for vector in &vectors {
        let name = vector["name"].as_str().expect("a vector has a name");
        let bytes = Bytes::from(unhex(vector["hex"].as_str().expect("a vector has bytes")));
        let result = decode(bytes.clone(), vector);
        if let Some(code) = vector["error"].as_str() {
            let error = result.expect_err(name);
            assert_eq!(code_of(&error), code, "{file}: {name}: {error}");
            continue;
        }
        let (decoded, encoded) = result.unwrap_or_else(|error| panic!("{file}: {name}: {error}"));
        let wanted = match vector.get("decoded") {
            Some(decoded) => decoded.clone(),
            None => json!({"frames": vector["frames"], "rest": vector["rest"]}),
        };
        assert_eq!(decoded, wanted, "{file}: {name}");
        if !name.contains("ignored") && !name.contains("skipped") {
            assert_eq!(encoded, bytes, "{file}: {name}");
        }
    }
}

fn code_of(error: &WireError) -> &'static str {
    match error {
        WireError::TooLong { .. } => "too_long",
        WireError::UnknownKind(_) => "unknown_kind",
        WireError::Malformed { .. } | WireError::Json { .. } => "malformed",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits");
    (0..text.len()).step_by(2).map(digit).collect()
}
