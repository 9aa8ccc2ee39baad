//! The ring's bounds, resuming, and who is cut.

use super::*;

fn event(kind: EventKind, key: &str, revision: i64) -> Event {
    let stored = format!(r#"{{"kind":"X","metadata":{{"name":"{key}"}}}}"#);
    Event::new(kind, Arc::from(key), revision, 0, stored.as_bytes(), None)
}

fn cache(max_events: usize) -> Arc<Cache> {
    let cache = Arc::new(Cache::new(max_events, 1 << 20));
    cache.replace(BTreeMap::new(), 10);
    cache
}

fn revisions(cursor: &mut Cursor) -> Vec<i64> {
    cursor.poll().unwrap().events.iter().map(|e| e.revision).collect()
}

#[test]
fn a_watch_resumes_where_it_was() {
    let cache = cache(100);
    cache.apply(vec![event(EventKind::Added, "a", 11), event(EventKind::Added, "b", 12)], 12);
    cache.apply(vec![event(EventKind::Modified, "a", 15)], 15);
    assert_eq!(revisions(&mut cache.watch_after(10).unwrap()), [11, 12, 15]);
    assert_eq!(revisions(&mut cache.watch_after(12).unwrap()), [15]);
    assert_eq!(revisions(&mut cache.watch_after(13).unwrap()), [15]);
    let mut head = cache.watch_after(15).unwrap();
    assert!(revisions(&mut head).is_empty());
    cache.note_progress(20);
    assert_eq!(head.poll().unwrap().revision, 20);
}

#[test]
fn older_than_the_ring_is_too_old() {
    let cache = cache(2);
    for revision in 11..=15 {
        cache.apply(vec![event(EventKind::Added, &format!("k{revision}"), revision)], revision);
    }
    assert_eq!(cache.watch_after(12).err(), Some(CursorError::TooOld { oldest: 13 }));
    assert_eq!(revisions(&mut cache.watch_after(13).unwrap()), [14, 15]);
}

#[test]
fn the_slow_are_cut_and_the_others_go_on() {
    let cache = cache(3);
    let mut slow = cache.watch_after(10).unwrap();
    let mut quick = cache.watch_after(10).unwrap();
    for revision in 11..=20 {
        cache.apply(vec![event(EventKind::Added, &format!("k{revision}"), revision)], revision);
        assert_eq!(revisions(&mut quick), [revision]);
    }
    assert_eq!(slow.poll().err(), Some(CursorError::Lagged));
}

#[test]
fn a_relist_ends_all_watches() {
    let cache = cache(10);
    let mut cursor = cache.watch_after(10).unwrap();
    cache.replace(BTreeMap::new(), 50);
    assert_eq!(cursor.poll().err(), Some(CursorError::Lagged));
}

#[test]
fn lists_go_by_prefix_and_start() {
    let cache = cache(10);
    let keys = ["a/x", "a/y", "a/z", "ab/x", "b/x"];
    cache.apply(keys.iter().zip(11..).map(|(k, r)| event(EventKind::Added, k, r)).collect(), 15);
    let names = |s: &Snapshot| s.objects.iter().map(|o| o.key.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&cache.list("a/", "", 0)), ["a/x", "a/y", "a/z"]);
    let page = cache.list("a/", "a/y", 1);
    assert_eq!((names(&page), page.remaining), (vec!["a/y".to_owned()], 1));
    assert_eq!(names(&cache.list("", "", 0)), keys);
}

#[test]
fn a_replaced_version_keeps_only_its_bytes() {
    let cache = cache(10);
    cache.apply(vec![event(EventKind::Added, "a", 11)], 11);
    let first = cache.get("a").unwrap();
    let parsed = first.value();
    assert!(Arc::ptr_eq(&parsed, &first.value()));
    cache.apply(vec![event(EventKind::Modified, "a", 12)], 12);
    assert!(!Arc::ptr_eq(&parsed, &first.value()));
    assert_eq!(*parsed, *first.value());
}
