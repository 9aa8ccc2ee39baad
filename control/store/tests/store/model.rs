//! Random histories against a model that is a list of changes and nothing else.

use bytes::Bytes;
use orlop_store::{
    Compare, Embedded, KeyRange, Op, Options, RangeRequest, Store, StoreError, TxnRequest, WatchMessage,
};
use proptest::prelude::*;

use crate::support::{delete_op, key, next, pairs, prefix, put_op, read, tell, watch};

#[derive(Clone, Debug)]
enum Step {
    Txn {
        guard: Option<(u8, bool)>,
        ops: Vec<(u8, Change)>,
    },
    /// Compacts this share (in 256ths) of what is not compacted yet.
    Compact(u8),
    /// Reads at this share of the history, with a limit.
    Range {
        under: u8,
        back: u8,
        limit: usize,
    },
    Watch {
        under: u8,
        back: u8,
    },
}

#[derive(Clone, Debug)]
enum Change {
    Put(u8),
    Delete,
    DeletePrefix,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = prop_oneof![
        6 => any::<u8>().prop_map(Change::Put),
        2 => Just(Change::Delete),
        1 => Just(Change::DeletePrefix),
    ];
    let ops = proptest::collection::vec((any::<u8>(), change), 1..4);
    let guard = proptest::option::of((any::<u8>(), any::<bool>()));
    let step = prop_oneof![
        12 => (guard, ops).prop_map(|(guard, ops)| Step::Txn { guard, ops }),
        1 => any::<u8>().prop_map(Step::Compact),
        3 => (any::<u8>(), any::<u8>(), 0_usize..4).prop_map(|(under, back, limit)| Step::Range { under, back, limit }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(under, back)| Step::Watch { under, back }),
    ];
    proptest::collection::vec(step, 1..60)
}

fn name(n: u8) -> String {
    format!("{}/{}", ["a", "b", "ab"][usize::from(n % 3)], n / 3 % 4)
}

fn under(n: u8) -> KeyRange {
    match n % 5 {
        0 => prefix(""),
        1 => prefix("a"),
        2 => prefix("a/"),
        3 => key("b/1"),
        _ => KeyRange { key: Bytes::from_static(b"a/2"), end: Some(Bytes::from_static(b"b/2")) },
    }
}

/// One change: revision, key, value (`None`: deleted).
struct Changed(i64, String, Option<String>);

struct Model {
    log: Vec<Changed>,
    revision: i64,
    compacted: i64,
}

impl Model {
    fn value(&self, name: &str, at: i64) -> Option<&str> {
        self.log.iter().rev().find(|c| c.0 <= at && c.1 == name)?.2.as_deref()
    }

    fn mod_revision(&self, name: &str) -> i64 {
        self.log.iter().rev().find(|c| c.1 == name).filter(|c| c.2.is_some()).map_or(0, |c| c.0)
    }

    fn keys(&self, range: &KeyRange, at: i64) -> Vec<String> {
        let mut names: Vec<String> = (0..12).map(name).collect();
        names.sort_unstable();
        names.retain(|n| range.contains(n.as_bytes()) && self.value(n, at).is_some());
        names
    }

    /// A revision that can be read: this share of the way back from now to the compaction.
    fn back(&self, share: u8) -> i64 {
        self.revision - (self.revision - self.compacted.max(1)) * i64::from(share) / 256
    }
}

async fn run(steps: Vec<Step>) {
    let options = Options { ring_bytes: 2000, ..Options::default() };
    let store = Embedded::in_memory_with(options).unwrap();
    let mut model = Model { log: Vec::new(), revision: 1, compacted: 0 };
    for step in steps {
        match step {
            Step::Txn { guard, ops } => txn(&store, &mut model, guard, ops).await,
            Step::Compact(share) => {
                let to = model.back(share);
                let result = store.compact(to).await;
                if to > model.compacted {
                    result.unwrap();
                    model.compacted = to;
                } else {
                    assert!(matches!(result, Err(StoreError::Compacted { .. })));
                }
            }
            Step::Range { under: which, back, limit } => {
                let (range, at) = (under(which), model.back(back));
                let answer = store.range(RangeRequest { limit, ..read(range.clone(), at) }).await.unwrap();
                let keys = model.keys(&range, at);
                let shown = if limit == 0 { keys.len() } else { limit.min(keys.len()) };
                let expect: Vec<String> =
                    keys[..shown].iter().map(|k| format!("{k}={}", model.value(k, at).unwrap())).collect();
                assert_eq!(pairs(&answer), expect, "{range:?} at {at}");
                assert_eq!((answer.count, answer.more), (keys.len(), shown < keys.len()));
                assert_eq!(answer.revision, model.revision);
            }
            Step::Watch { under: which, back } => replay(&store, &model, under(which), model.back(back)).await,
        }
        let status = store.status().await.unwrap();
        assert_eq!(status.revision, model.revision);
        assert_eq!(status.keys, model.keys(&prefix(""), model.revision).len() as u64);
    }
    store.close().await;
}

async fn txn(store: &Embedded, model: &mut Model, guard: Option<(u8, bool)>, ops: Vec<(u8, Change)>) {
    let mut request = TxnRequest::default();
    let mut holds = true;
    if let Some((n, right)) = guard {
        let revision = model.mod_revision(&name(n));
        let wanted = if right { revision } else { revision + 1 };
        holds = right;
        request.compare.push(Compare::ModRevision(Bytes::from(name(n)), wanted));
    }
    let next = model.revision + 1;
    let mut changes: Vec<Changed> = Vec::new();
    let mut put_keys: Vec<String> = Vec::new();
    let mut deleted: Vec<KeyRange> = Vec::new();
    for (n, change) in ops {
        let name = name(n);
        match change {
            Change::Put(v) => {
                request.success.push(put_op(&name, &v.to_string(), 0));
                changes.push(Changed(next, name.clone(), Some(v.to_string())));
                put_keys.push(name);
            }
            Change::Delete | Change::DeletePrefix => {
                let range = if matches!(change, Change::Delete) { key(&name) } else { prefix(&name[..1]) };
                for k in model.keys(&range, model.revision) {
                    if !deleted.iter().any(|earlier| earlier.contains(k.as_bytes())) {
                        changes.push(Changed(next, k, None));
                    }
                }
                deleted.push(range.clone());
                request.success.push(delete_op(range));
            }
        }
    }
    let mut sorted = put_keys.clone();
    sorted.sort_unstable();
    sorted.dedup();
    let valid = sorted.len() == put_keys.len()
        && !put_keys.iter().any(|k| deleted.iter().any(|range| range.contains(k.as_bytes())));
    request.failure.push(Op::Range(read(prefix(""), 0)));
    let result = store.txn(request).await;
    if holds && !valid {
        assert!(matches!(result, Err(StoreError::Invalid { .. })), "{result:?}");
        return;
    }
    let answer = result.unwrap();
    assert_eq!(answer.succeeded, holds);
    if holds && !changes.is_empty() {
        model.revision = next;
        model.log.extend(changes);
    }
    assert_eq!(answer.revision, model.revision);
}

/// A watch from `from` tells exactly the model's changes, in order.
async fn replay(store: &Embedded, model: &Model, range: KeyRange, from: i64) {
    let mut expect = Vec::new();
    for change in model.log.iter().filter(|c| c.0 >= from && range.contains(c.1.as_bytes())) {
        expect.push(match &change.2 {
            Some(value) => format!("{}+{}={value}", change.0, change.1),
            None => format!("{}-{}", change.0, change.1),
        });
    }
    let mut w = watch(store, range, from).await;
    (w.progress)();
    let mut told: Vec<String> = Vec::new();
    loop {
        match next(&mut w).await {
            Some(WatchMessage::Events { events, .. }) => told.extend(events.iter().map(tell)),
            Some(WatchMessage::Progress { revision }) if revision == model.revision => break,
            other => panic!("{other:?}"),
        }
    }
    // What was before may be compacted; the change itself may not.
    let told: Vec<&str> = told.iter().map(|t| t.split(" (").next().unwrap()).collect();
    // At the compacted revision itself, changes that were overwritten since may be gone.
    let expect: Vec<&String> = expect.iter().filter(|e| from > model.compacted || told.contains(&e.as_str())).collect();
    assert_eq!(told, expect, "from {from}, compacted {}", model.compacted);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_store_does_what_the_model_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
