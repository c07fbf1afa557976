use proptest::prelude::*;

use super::*;

const AGE: Duration = Duration::from_secs(600);

fn shelf(now: Instant) -> Shelf {
    Shelf {
        demand: Demand::new(now),
        default: true,
        there: true,
        ready: 0,
        starting: 0,
        waiting: 0,
        failed: None,
    }
}

fn cores(all: f64, free: f64, workers: usize) -> Cores {
    Cores { all, free, workers }
}

fn used(now: Instant, claims: usize) -> Shelf {
    let mut shelf = shelf(now);
    (0..claims).for_each(|_| shelf.demand.claimed(now, AGE));
    shelf
}

#[test]
fn a_kind_is_kept_for_the_most_that_was_taken_at_once_within_bounds() {
    let (policy, now) = (Policy::new(2, AGE), Instant::now());
    let wanted = |claims| policy.wanted(&used(now, claims), now);
    assert_eq!([0, 1, 2, 3, 4, 9].map(wanted), [2, 2, 2, 3, 4, 4]);
    // The same number of claims one after the other needs no more than the target.
    let mut slow = shelf(now);
    for second in 0..9 {
        slow.demand.claimed(now + Duration::from_secs(second), AGE);
    }
    assert_eq!(policy.wanted(&slow, now + Duration::from_secs(9)), 2);
}

#[test]
fn what_calls_do_not_use_any_more_is_given_up_but_the_default_images() {
    let (policy, now) = (Policy::new(2, AGE), Instant::now());
    let mut shelf = Shelf { default: false, ..used(now, 4) };
    assert_eq!(policy.wanted(&shelf, now + AGE / 2), 4);
    assert!(policy.is_over(&shelf, now + AGE));
    shelf.waiting = 1;
    assert!(!policy.is_over(&shelf, now + AGE), "somebody waits for it");
    let default = Shelf { default: true, waiting: 0, ..shelf };
    assert_eq!(policy.wanted(&default, now + AGE), 2);
    assert!(policy.is_over(&Shelf { there: false, ..default }, now));
}

#[test]
fn while_workers_run_refills_use_the_cores_that_are_free() {
    let (mut policy, now) = (Policy::new(4, AGE), Instant::now());
    let shelves = [shelf(now)];
    assert_eq!(policy.refills(&shelves, cores(4.0, 3.0, 1), Memory::Plenty, now).len(), 3);
    let claims = [Shelf { starting: 2, waiting: 2, ..shelf(now) }];
    assert_eq!(policy.refills(&claims, cores(4.0, 1.5, 3), Memory::Plenty, now).len(), 1);
    let under_way = [Shelf { starting: 3, waiting: 2, ..shelf(now) }];
    assert_eq!(policy.refills(&under_way, cores(4.0, 1.5, 3), Memory::Plenty, now).len(), 0);
}

#[test]
fn while_none_runs_the_engine_is_kept_busy() {
    let (mut policy, now) = (Policy::new(9, AGE), Instant::now());
    let idle = [shelf(now)];
    assert_eq!(policy.refills(&idle, cores(2.0, 2.0, 0), Memory::Plenty, now).len(), 4);
    // Both cores are held, but by claims whose workers are being started.
    let claims = [Shelf { starting: 2, waiting: 2, ..shelf(now) }];
    assert_eq!(policy.refills(&claims, cores(2.0, 0.0, 2), Memory::Plenty, now).len(), 2);
}

#[test]
fn while_calls_hold_all_cores_one_is_started_now_and_then_but_none_for_a_while_after_a_claim() {
    let (mut policy, now) = (Policy::new(4, AGE), Instant::now());
    let (shelves, held) = ([used(now, 1), shelf(now)], cores(2.0, 0.0, 2));
    let mut begun = |shelves: &[Shelf], after| {
        policy.refills(shelves, held, Memory::Plenty, now + TRICKLE.mul_f64(after)).len()
    };
    assert_eq!([0.0, 0.9, 1.0, 1.5, 2.0].map(|after| begun(&shelves, after)), [0, 0, 1, 0, 1]);
    let slow = [Shelf { starting: 1, ..shelf(now) }];
    assert_eq!(begun(&slow, 5.0), 0);
}

#[test]
fn the_emptier_shelf_is_filled_first_and_among_equals_the_one_used_last() {
    let (mut policy, now) = (Policy::new(2, AGE), Instant::now());
    let shelves = [Shelf { ready: 1, ..used(now, 1) }, shelf(now), used(now, 1)];
    assert_eq!(policy.refills(&shelves, cores(3.0, 3.0, 1), Memory::Plenty, now), [2, 1, 2]);
    let failed = [Shelf { failed: Some(now), ..shelf(now) }, Shelf { ready: 1, ..shelf(now) }];
    assert_eq!(policy.refills(&failed, cores(8.0, 8.0, 0), Memory::Plenty, now), [1]);
}

#[test]
fn where_memory_is_scarce_what_was_not_used_for_longest_goes_first() {
    let (mut policy, now) = (Policy::new(2, AGE), Instant::now());
    let later = now + Duration::from_secs(1);
    let shelves = [Shelf { ready: 1, ..used(later, 1) }, Shelf { ready: 2, ..used(now, 1) }];
    assert_eq!(policy.shed(&shelves, Memory::Short), None);
    assert_eq!(policy.shed(&shelves, Memory::Scarce), Some(1));
    assert!(policy.refills(&[shelf(now)], cores(8.0, 8.0, 0), Memory::Short, later).is_empty());
    let of = |available| Memory::of(available, 1000);
    assert_eq!(
        [49, 50, 99, 100].map(of),
        [Memory::Scarce, Memory::Short, Memory::Short, Memory::Plenty]
    );
}

fn any_shelf() -> impl Strategy<Value = (usize, bool, bool, usize, usize, usize)> {
    (0..6usize, any::<bool>(), any::<bool>(), 0..4usize, 0..4usize, 0..4usize)
}

proptest! {
    /// Whatever the shelves are: no more is begun than is lacking and than cores allow; and where every start succeeds, and
    /// cores are free, all shelves fill up.
    #[test]
    fn refills_never_overshoot_and_end_with_full_shelves(
        kinds in proptest::collection::vec(any_shelf(), 0..6),
        (all, held) in (1..8usize, 0..8usize),
        workers in 0..8usize,
        target in 0..5usize,
    ) {
        let (mut policy, mut now) = (Policy::new(target, 2 * AGE), Instant::now());
        let free = all.saturating_sub(held);
        let host = cores(all as f64, free as f64, workers);
        let mut shelves: Vec<Shelf> = kinds
            .into_iter()
            .map(|(claims, default, there, ready, starting, waiting)| {
                Shelf { default, there, ready, starting, waiting, ..used(now, claims) }
            })
            .collect();
        for _ in 0..64 {
            let before: usize =
                shelves.iter().map(|shelf| shelf.starting.saturating_sub(shelf.waiting)).sum();
            let refills = policy.refills(&shelves, host, Memory::Plenty, now);
            prop_assert!(before + refills.len() <= before.max(STARTS_PER_CORE * all));
            let waiting: usize = shelves.iter().map(|shelf| shelf.waiting).sum();
            if workers > waiting {
                prop_assert!(before + refills.len() <= before.max(free.max(1)));
            }
            for at in refills {
                shelves[at].starting += 1;
                let shelf = &shelves[at];
                prop_assert!(shelf.on_the_way() <= policy.wanted(shelf, now));
            }
            for shelf in &mut shelves {
                let served = shelf.starting.min(shelf.waiting);
                shelf.ready += shelf.starting - served;
                shelf.waiting -= served;
                shelf.starting = 0;
            }
            now += TRICKLE;
        }
        for shelf in &shelves {
            prop_assert!(shelf.ready >= policy.wanted(shelf, now));
        }
    }
}

#[test]
fn a_claim_has_the_cores_to_itself_for_a_moment() {
    let (policy, now) = (Policy::new(2, AGE), Instant::now());
    let shelves = [shelf(now), used(now, 1)];
    assert_eq!(policy.pauses(&shelves, now), Some(now + PAUSE));
    assert_eq!(policy.pauses(&shelves, now + PAUSE), None);
    assert_eq!(policy.pauses(&[shelf(now)], now), None);
}
