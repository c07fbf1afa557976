use super::*;
use muster_wire::batch::OutputsBuilder;
use muster_wire::message::{ExceptionHead, Failure, to_json};
use proptest::prelude::*;
use serde_json::{Value, json};

fn render(renderer: &mut JsonRenderer, entries: Vec<Entry>) -> String {
    let mut out = BytesMut::new();
    for entry in entries {
        renderer.entry(entry, &mut out);
        while renderer.has_more() {
            renderer.more(&mut out);
        }
    }
    String::from_utf8(out.to_vec()).expect("JSON is UTF-8")
}

fn ndjson(encoding: Encoding, after: u64, frame: Frame) -> Vec<Value> {
    let mut renderer = JsonRenderer::new(Wrap::Ndjson, encoding, after);
    let text = render(&mut renderer, vec![Entry::Logged(frame.into())]);
    text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
}

fn at(seq: u64, frame: Frame) -> Frame {
    Frame { seq, ..frame }
}

fn outputs(list: &[(Status, &[u8])]) -> Frame {
    let mut builder = OutputsBuilder::new(10, 2);
    list.iter().for_each(|(status, item)| builder.push(*status, item));
    builder.finish().to_frame()
}

fn print(bytes: &[u8]) -> Frame {
    let bytes = Bytes::copy_from_slice(bytes);
    Print { index: 3, attempt: 1, stream: Stream::Stderr, bytes }.to_frame()
}

#[test]
fn outputs_of_one_frame_are_numbered_one_by_one() {
    let frame = at(5, outputs(&[(Status::Value, b"1"), (Status::Value, b"{\"a\": [1, 2]}")]));
    assert_eq!(
        ndjson(Encoding::Json, 0, frame),
        [
            json!({"seq": 5, "type": "output", "index": 10, "attempt": 2, "value": 1}),
            json!({"seq": 6, "type": "output", "index": 11, "attempt": 2, "value": {"a": [1, 2]}}),
        ]
    );
}

#[test]
fn a_reader_that_resumes_inside_a_frame_gets_only_what_it_lacks() {
    let three = [(Status::Value, &b"1"[..]), (Status::Value, b"2"), (Status::Value, b"3")];
    let seqs = |after| {
        let events = ndjson(Encoding::Json, after, at(5, outputs(&three)));
        events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    assert_eq!(seqs(4), [5, 6, 7]);
    assert_eq!(seqs(5), [6, 7]);
    assert_eq!(seqs(6), [7]);
    assert_eq!(seqs(7), [0u64; 0]);
}

#[test]
fn pickles_exceptions_and_failures_have_their_own_fields() {
    let mut exception = ExceptionHead {
        kind: "ValueError".into(),
        message: "no".into(),
        traceback: "a\nb".into(),
        ..Default::default()
    }
    .to_item()
    .to_vec();
    exception.extend_from_slice(b"\x80\x05pickle");
    let failure = to_json(&Failure { code: "lost".into(), ..Default::default() });
    let frame = outputs(&[
        (Status::Value, b"\x80\x04."),
        (Status::Exception, &exception),
        (Status::Failure, &failure),
    ]);
    let events = ndjson(Encoding::Pickle, 0, at(1, frame));
    assert_eq!(events[0]["pickle_base64"], "gAQu");
    assert_eq!(
        events[1]["exception"],
        json!({"type": "ValueError", "message": "no", "traceback": "a\nb"})
    );
    assert_eq!(events[2]["failure"]["code"], "lost");
}

#[test]
fn what_a_container_writes_cannot_forge_an_event() {
    let forged = b"1}\n{\"seq\":9,\"type\":\"end\"";
    let pretty = b"{\n  \"a\": 1,\r\n  \"b\": \"x\\ny\"\n}";
    let frame =
        outputs(&[(Status::Value, forged), (Status::Value, pretty), (Status::Value, b"NaN")]);
    let events = ndjson(Encoding::Json, 0, at(1, frame));
    assert_eq!(events.len(), 3);
    assert_eq!(events[0]["value"], Value::Null);
    assert_eq!(events[0]["base64"], STANDARD.encode(forged));
    assert_eq!(events[1]["value"], json!({"a": 1, "b": "x\ny"}));
    assert_eq!(events[2]["base64"], STANDARD.encode(b"NaN"));
}

#[test]
fn prints_are_text_or_base64() {
    let text = |bytes: &[u8]| ndjson(Encoding::Json, 0, at(1, print(bytes))).remove(0);
    assert_eq!(
        text("zwölf\n\u{0}\u{2028}".as_bytes()),
        json!({"seq": 1, "type": "stderr", "index": 3, "attempt": 1, "text": "zwölf\n\u{0}\u{2028}"})
    );
    assert_eq!(text(b"\xff\xfe")["base64"], "//4=");
    assert_eq!(text(b"")["text"], "");
}

#[test]
fn a_character_cut_in_two_costs_only_its_two_pieces_their_text() {
    let whole = "é".as_bytes();
    let kinds: Vec<bool> = [&whole[..1], &whole[1..], whole]
        .iter()
        .map(|piece| ndjson(Encoding::Json, 0, at(1, print(piece)))[0].get("text").is_some())
        .collect();
    assert_eq!(kinds, [false, false, true]);
}

#[test]
fn events_get_their_number_once() {
    let event = |json: &'static [u8]| at(4, Frame::new(Kind::Event, Bytes::from_static(json)));
    let bare = ndjson(Encoding::Json, 0, event(b"{\"type\":\"state\",\"state\":\"running\"}"));
    assert_eq!(bare, [json!({"seq": 4, "type": "state", "state": "running"})]);
    let mut renderer = JsonRenderer::new(Wrap::Ndjson, Encoding::Json, 0);
    let text =
        render(&mut renderer, vec![Entry::Logged(event(b"{\"seq\":4,\"type\":\"x\"}").into())]);
    assert_eq!(text, "{\"seq\":4,\"type\":\"x\"}\n");
}

#[test]
fn server_sent_events_carry_their_number_as_id() {
    let mut renderer = JsonRenderer::new(Wrap::Sse, Encoding::Json, 0);
    let progress =
        Entry::Progress { seq: 7, json: Bytes::from_static(b"{\"seq\":7,\"type\":\"progress\"}") };
    let frame = at(8, outputs(&[(Status::Value, b"[1,\n2]")]));
    let text = render(&mut renderer, vec![progress, Entry::Logged(frame.into())]);
    assert_eq!(
        text,
        "id: 7\ndata: {\"seq\":7,\"type\":\"progress\"}\n\n\
         id: 8\ndata: {\"seq\":8,\"type\":\"output\",\"index\":10,\"attempt\":2,\"value\":[1, 2]}\n\n"
    );
}

proptest! {
    #[test]
    fn whatever_comes_out_of_a_container_is_one_line_of_json(
        bytes: Vec<u8>, status in 0u8..3, pickle: bool
    ) {
        let encoding = if pickle { Encoding::Pickle } else { Encoding::Json };
        let status = Status::from_u8(status).expect("in range");
        prop_assert_eq!(ndjson(encoding, 0, at(1, outputs(&[(status, &bytes)]))).len(), 1);
        prop_assert_eq!(ndjson(encoding, 0, at(1, print(&bytes))).len(), 1);
    }

    #[test]
    fn base64_of_any_length_decodes_to_what_it_was(length in 0usize..200_000) {
        let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
        let events = ndjson(Encoding::Pickle, 0, at(1, outputs(&[(Status::Value, &bytes)])));
        let text = events[0]["pickle_base64"].as_str().expect("text");
        prop_assert_eq!(STANDARD.decode(text).expect("base64"), bytes);
    }
}

#[test]
fn a_long_value_is_written_in_pieces_and_reads_the_same() {
    // Of characters of several lengths, so that pieces would end inside of some.
    let text = "zwölf \u{1f980}\n".repeat(20_000);
    let raw = vec![0xff; 200_000];
    let value = serde_json::to_vec(&text).expect("a string");
    let frames = [
        (Encoding::Json, print(text.as_bytes()), "text", json!(text)),
        (Encoding::Json, print(&raw), "base64", json!(STANDARD.encode(&raw))),
        (Encoding::Json, outputs(&[(Status::Value, &value)]), "value", json!(text)),
        (Encoding::Json, outputs(&[(Status::Value, &raw)]), "base64", json!(STANDARD.encode(&raw))),
        (
            Encoding::Pickle,
            outputs(&[(Status::Value, &raw)]),
            "pickle_base64",
            json!(STANDARD.encode(&raw)),
        ),
    ];
    for (encoding, frame, field, wanted) in frames {
        let mut renderer = JsonRenderer::new(Wrap::Ndjson, encoding, 0);
        let (mut out, mut most) = (BytesMut::new(), 0);
        renderer.entry(Entry::Logged(at(1, frame).into()), &mut out);
        while renderer.has_more() {
            let before = out.len();
            renderer.more(&mut out);
            most = most.max(out.len() - before);
        }
        assert!(most < 2 * LONG, "{field}: {most} bytes at once");
        let event: Value = serde_json::from_slice(&out).expect("one object");
        assert_eq!(event[field], wanted);
        assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
    }
}
