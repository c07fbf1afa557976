//! The one checker: what a call's stream must say, whatever happened to its hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use muster_gateway::calls::{CallHandle, Calls, Entry};
use muster_wire::batch::{Outputs, Status};
use muster_wire::frame::Kind;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a scenario may take to come to its end, in simulated time.
const IN_TIME: Duration = Duration::from_secs(3 * 3600);
/// A reader hears something at least this often.
const HEARTBEAT: Duration = Duration::from_secs(11);

/// What a call's stream said.
#[derive(Debug, Default)]
pub struct Told {
    /// `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// The attempt of each index that has an output.
    pub attempts: BTreeMap<u64, u32>,
    /// Why the call waited, each reason once.
    pub reasons: Vec<String>,
    /// When the end came.
    pub ended: Option<Instant>,
}

/// Reads a call's events to the end, and checks each.
pub async fn read(call: CallHandle, inputs: u64) -> Result<Told, String> {
    let mut told = Told::default();
    follow(&call, inputs, Instant::now(), &mut 0, &mut told).await?;
    told.judged(inputs)
}

/// The same from one gateway to the next.
pub async fn read_on(
    mut front: watch::Receiver<Option<Calls>>,
    call: CallHandle,
    inputs: u64,
) -> Result<Told, String> {
    let (id, mut told, mut seq) = (call.id().to_owned(), Told::default(), 0);
    let (begun, mut call) = (Instant::now(), Some(call));
    while told.ended.is_none() {
        let there = match call.take() {
            Some(call) => call,
            None => {
                let calls = front.wait_for(Option::is_some).await.map_err(|e| e.to_string())?;
                let found = calls.as_ref().and_then(|calls| calls.get(&id));
                found.ok_or("a gateway has forgotten a background call")?
            }
        };
        tokio::select! {
            followed = follow(&there, inputs, begun, &mut seq, &mut told) => followed?,
            _ = front.wait_for(Option::is_none) => {}
        }
        if told.ended.is_none() {
            // Its stream ended without an end: that gateway is dying.
            let _ = front.wait_for(Option::is_none).await;
        }
    }
    told.judged(inputs)
}

async fn follow(
    call: &CallHandle,
    inputs: u64,
    begun: Instant,
    seq: &mut u64,
    told: &mut Told,
) -> Result<(), String> {
    let mut events = call.events(*seq);
    loop {
        let next = tokio::time::timeout(HEARTBEAT, events.next()).await;
        let next = next.map_err(|_| "a reader heard nothing for 11 s".to_owned())?;
        if begun.elapsed() > IN_TIME {
            return Err(format!("not ended in time: {:?}", call.record()));
        }
        let frame = match next {
            None => return Ok(()),
            Some(Entry::Progress { json, .. }) => {
                let progress: Value = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
                if let Some(why) = progress["waiting"].as_str()
                    && !told.reasons.iter().any(|reason| reason == why)
                {
                    told.reasons.push(why.to_owned());
                }
                continue;
            }
            Some(Entry::Logged(frame)) => frame,
        };
        if frame.seq != *seq + 1 {
            return Err(format!("seq {} follows {seq}", frame.seq));
        }
        *seq = frame.seq;
        match frame.kind {
            Kind::Outputs => {
                let outputs = Outputs::decode(frame.body).map_err(|error| error.to_string())?;
                *seq += outputs.len() as u64 - 1;
                for (index, status, item) in outputs.iter() {
                    let oracle = status == Status::Value && item[..] == index.to_le_bytes();
                    if index >= inputs || !oracle {
                        return Err(format!("input {index} gave {status:?} {item:?}"));
                    }
                    if told.attempts.insert(index, outputs.attempt).is_some() {
                        return Err(format!("input {index} ended twice"));
                    }
                }
            }
            Kind::Event => {
                let event: Value =
                    serde_json::from_slice(&frame.body.joined()).map_err(|e| e.to_string())?;
                if event["type"] == "end" {
                    told.state = event["state"].as_str().unwrap_or("?").to_owned();
                    told.ended = Some(Instant::now());
                }
            }
            _ => {}
        }
    }
}

impl Told {
    fn judged(self, inputs: u64) -> Result<Told, String> {
        let all = self.attempts.len() as u64 == inputs;
        match self.state.as_str() {
            "succeeded" if all => Ok(self),
            "cancelled" => Ok(self),
            state => Err(format!("{state} with {} of {inputs} outputs", self.attempts.len())),
        }
    }
}
