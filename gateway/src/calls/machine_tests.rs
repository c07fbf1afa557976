use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn with_inputs(count: u64, retries: u32) -> Machine {
    let mut machine = Machine::new(retries);
    machine.receive(0, count).expect("first batch");
    machine.close(None).expect("closes");
    machine
}

#[test]
fn a_batch_sent_twice_is_taken_once_and_a_gap_is_refused() {
    let mut machine = Machine::new(0);
    assert_eq!(machine.receive(0, 5), Ok(true));
    assert_eq!(machine.receive(0, 5), Ok(false));
    assert_eq!(machine.receive(6, 1), Err(PushError::Gap { expected: 5 }));
    assert_eq!(machine.close(Some(6)), Err(PushError::Gap { expected: 5 }));
    assert_eq!(machine.close(Some(5)), Ok(()));
    assert_eq!(machine.receive(5, 1), Err(PushError::Closed));
}

#[test]
fn of_inputs_that_come_again_those_are_known_that_were_taken() {
    let mut machine = Machine::new(0);
    machine.receive(0, 5).expect("first batch");
    assert_eq!(machine.known(3, 4), Ok(2));
    assert_eq!(machine.known(5, 4), Ok(0));
    assert_eq!(machine.known(6, 1), Err(PushError::Gap { expected: 5 }));
    machine.close(None).expect("closes");
    assert_eq!(machine.known(2, 3), Ok(3));
    assert_eq!(machine.known(2, 4), Err(PushError::Closed));
}

proptest! {
    #[test]
    fn a_restored_call_runs_what_has_no_output_and_nothing_else(
        ended in proptest::collection::vec(any::<bool>(), 0..40),
        more in 0u64..10,
    ) {
        let total = ended.len() as u64 + more;
        let done = (0..).zip(&ended).filter(|(_, ended)| **ended).map(|(at, _)| (at, at + 1));
        let mut machine = Machine::restored(0, total, done, 0, 3);
        machine.close(Some(total)).expect("all came");
        let mut run = Vec::new();
        while let Some(Range { first, end, attempt }) = machine.lease(1, 7) {
            prop_assert_eq!(attempt, 3);
            run.extend(first..end);
            machine.values(1, first, end, attempt);
        }
        let expected: Vec<u64> =
            (0..total).filter(|&at| ended.get(at as usize) != Some(&true)).collect();
        prop_assert_eq!(run, expected);
        prop_assert!(machine.is_complete());
    }
}

#[test]
fn an_exception_is_final_without_retries_and_tried_again_with() {
    let mut machine = with_inputs(1, 1);
    machine.lease(1, 9);
    assert_eq!(machine.fault(1, 0, 1, Fault::Raised), Verdict::Again);
    assert_eq!(machine.lease(2, 9), Some(Range { first: 0, end: 1, attempt: 2 }));
    assert_eq!(machine.fault(2, 0, 2, Fault::Raised), Verdict::Commit);
    assert!(machine.is_complete());
    assert_eq!(machine.failed(), 1);
}

#[test]
fn an_input_that_kills_three_workers_is_poison_whatever_retries_says() {
    let mut machine = with_inputs(1, 100);
    for attempt in 1..=2 {
        machine.lease(1, 1);
        assert_eq!(machine.fault(1, 0, attempt, Fault::Killed), Verdict::Again);
    }
    machine.lease(1, 1);
    assert_eq!(machine.fault(1, 0, 3, Fault::Killed), Verdict::Poison);
}

#[test]
fn a_lost_host_costs_no_retry_but_not_for_ever() {
    let mut machine = with_inputs(2, 0);
    for link in 0..4 {
        machine.lease(link, 2);
        assert_eq!(machine.link_lost(link), vec![]);
    }
    machine.lease(9, 2);
    assert_eq!(machine.link_lost(9).len(), 2);
    assert!(machine.is_complete());
}

#[test]
fn an_output_of_a_lost_link_or_an_old_attempt_is_late() {
    let mut machine = with_inputs(3, 0);
    machine.lease(1, 3);
    machine.link_lost(1);
    assert_eq!(machine.values(1, 0, 3, 1), vec![]);
    machine.lease(2, 3);
    assert_eq!(machine.values(2, 0, 3, 1), vec![]);
    assert_eq!(machine.values(2, 0, 3, 2), vec![(0, 3)]);
    assert_eq!(machine.values(2, 0, 3, 2), vec![]);
    assert_eq!(machine.late(), 9);
    assert!(machine.is_complete());
}

#[test]
fn inputs_that_never_arrived_wait_again_as_they_were_and_cost_no_loss() {
    let mut machine = with_inputs(1, 0);
    for link in 0..20 {
        assert_eq!(machine.lease(link, 1), Some(Range { first: 0, end: 1, attempt: 1 }));
        machine.link_holds(link, &[]);
    }
    assert_eq!(machine.waiting(), 1);
}

#[test]
fn a_restored_machine_takes_what_a_host_holds_out_of_what_waits() {
    let mut machine = Machine::restored(0, 10, [(0, 2)], 0, 3);
    let held = |first, end| Range { first, end, attempt: 2 };
    machine.link_holds(7, &[held(1, 4), held(6, 7), held(9, 20)]);
    assert_eq!((machine.leased_to(7), machine.waiting()), (4, 4));
    assert_eq!(machine.values(7, 2, 4, 2), vec![(2, 4)]);
    assert_eq!(machine.lease(8, 10), Some(Range { first: 4, end: 6, attempt: 3 }));
    assert_eq!(machine.lease(8, 10), Some(Range { first: 7, end: 9, attempt: 3 }));
    assert_eq!(machine.lease(8, 10), None);
}

#[derive(Debug, Clone)]
enum Step {
    Receive(u64),
    Lease(u64, u64),
    Values(u64, u64, u64),
    Fault(u64, u64, Fault),
    Lose(u64),
    /// A host is back and holds what it was given but for inputs whose index has this remainder by three; and says that it holds some that it was never given.
    Return(u64, u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop_oneof![
        Just(Fault::Raised),
        Just(Fault::Killed),
        Just(Fault::Lost),
        Just(Fault::Permanent)
    ];
    let step = prop_oneof![
        (0u64..6).prop_map(Step::Receive),
        (0u64..3, 1u64..6).prop_map(|(link, count)| Step::Lease(link, count)),
        (0u64..3, 0u64..30, 1u64..8)
            .prop_map(|(link, first, count)| Step::Values(link, first, count)),
        (0u64..3, 0u64..30, fault).prop_map(|(link, index, fault)| Step::Fault(link, index, fault)),
        (0u64..3).prop_map(Step::Lose),
        (0u64..3, 0u64..4, 0u64..30)
            .prop_map(|(link, lacks, more)| Step::Return(link, lacks, more)),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// Against a model that keeps every input by itself: each input ends once at most, is in one place at a time,
    /// and nothing is lost or invented.
    #[test]
    fn every_input_is_in_one_place_and_ends_once(steps in steps(), retries in 0u32..3) {
        let mut machine = Machine::new(retries);
        let mut held: BTreeMap<u64, (u64, u32)> = BTreeMap::new();
        let mut ended: BTreeMap<u64, ()> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Receive(count) => {
                    machine.receive(machine.received(), count).expect("follows");
                }
                Step::Lease(link, count) => {
                    if let Some(range) = machine.lease(link, count) {
                        for index in range.first..range.end {
                            prop_assert!(held.insert(index, (link, range.attempt)).is_none());
                            prop_assert!(!ended.contains_key(&index));
                        }
                    }
                }
                Step::Values(link, first, count) => {
                    for attempt in 1..9 {
                        let parts = machine.values(link, first, first + count, attempt);
                        let expected: Vec<u64> = (first..first + count)
                            .filter(|index| held.get(index) == Some(&(link, attempt))).collect();
                        let got: Vec<u64> = parts.iter().flat_map(|&(a, b)| a..b).collect();
                        prop_assert_eq!(&got, &expected);
                        for index in got {
                            held.remove(&index);
                            prop_assert!(ended.insert(index, ()).is_none());
                        }
                    }
                }
                Step::Fault(link, index, fault) => {
                    let attempt = held.get(&index).map_or(1, |held| held.1);
                    let verdict = machine.fault(link, index, attempt, fault);
                    if held.get(&index) == Some(&(link, attempt)) {
                        prop_assert_ne!(verdict, Verdict::Late);
                        held.remove(&index);
                        if verdict != Verdict::Again {
                            prop_assert!(ended.insert(index, ()).is_none());
                        }
                    } else {
                        prop_assert_eq!(verdict, Verdict::Late);
                    }
                }
                Step::Lose(link) => {
                    for range in machine.link_lost(link) {
                        prop_assert!(ended.insert(range.first, ()).is_none());
                    }
                    held.retain(|_, held| held.0 != link);
                }
                Step::Return(link, lacks, more) => {
                    let holds: Vec<Range> = (0..machine.received())
                        .filter_map(|index| {
                            let own = held.get(&index).filter(|held| held.0 == link);
                            let attempt = own.map(|held| held.1).filter(|_| index % 3 != lacks);
                            let attempt = attempt.or((index / 4 == more).then_some(7))?;
                            Some(Range { first: index, end: index + 1, attempt })
                        })
                        .collect();
                    machine.link_holds(link, &holds);
                    held.retain(|index, held| held.0 != link || holds.iter().any(|range| {
                        range.first == *index && range.attempt == held.1
                    }));
                    for Range { first, attempt, .. } in holds {
                        if !ended.contains_key(&first) {
                            held.entry(first).or_insert((link, attempt));
                        }
                    }
                }
            }
            prop_assert_eq!(machine.done(), ended.len() as u64);
            let leased: u64 = (0..3).map(|link| machine.leased_to(link)).sum();
            prop_assert_eq!(leased, held.len() as u64);
            prop_assert_eq!(machine.waiting() + leased + machine.done(), machine.received());
        }
    }
}
