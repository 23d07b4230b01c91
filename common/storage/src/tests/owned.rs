//! Attempts of a JobManager that follow each other, and do not all know it.

use super::*;

impl Place {
    /// A checkpoint that is complete but for its metadata.
    async fn written(&self, id: u64) -> (String, SnapshotMetadata) {
        let (directory, metadata) = self.checkpoint(id).await;
        fs::remove_file(self.path(&format!("chk-{id}/_metadata"))).unwrap();
        (directory, metadata)
    }

    async fn commit(&self, id: u64, attempt: u32) -> Result<(), StorageError> {
        let (directory, metadata) = self.written(id).await;
        let storage = &self.storage;
        let done = storage.commit_owned(&directory, &metadata, attempt, Finish::Durable);
        done.await
    }

    async fn complete(&self) -> Vec<u64> {
        let found = self.storage.discover(&self.uri("")).await.unwrap();
        let found = found.complete.iter();
        found.map(|one| one.metadata.checkpoint.0).collect()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

fn is_superseded<T>(done: Result<T, StorageError>) -> bool {
    matches!(done, Err(StorageError::Superseded { attempt: 1, .. }))
}

#[tokio::test]
async fn who_was_thought_dead_changes_nothing_any_more() {
    let place = Place::new();
    let (storage, base) = (&place.storage, place.uri(""));
    storage.take_over(&base, 1).await.unwrap();
    place.commit(1, 1).await.unwrap();
    place.commit(2, 1).await.unwrap();
    assert!(storage.discard_owned(&place.uri("chk-1"), 1).await.unwrap());
    assert!(!storage.discard_owned(&place.uri("chk-1"), 1).await.unwrap());
    storage.check_owned(&base, 1).await.unwrap();
    storage.take_over(&base, 3).await.unwrap();
    storage.take_over(&base, 3).await.unwrap();
    assert_eq!(place.complete().await, [2]);

    assert!(is_superseded(place.commit(5, 1).await));
    assert!(is_superseded(
        storage.discard_owned(&place.uri("chk-2"), 1).await
    ));
    assert!(is_superseded(storage.discard_all_owned(&base, 1).await));
    assert!(is_superseded(storage.check_owned(&base, 1).await));
    assert!(is_superseded(storage.take_over(&base, 1).await));
    assert_eq!(place.complete().await, [2]);
    assert_eq!(place.names(), [".attempt-3", "chk-2", "chk-5"]);
    assert_eq!(files(&place.path("chk-2")).len(), 3);

    place.commit(6, 3).await.unwrap();
    assert_eq!(place.complete().await, [6, 2]);
    storage.discard_all_owned(&base, 3).await.unwrap();
    assert!(!place.directory.path().exists());
    storage.discard_all_owned(&base, 3).await.unwrap();
}

#[tokio::test]
async fn who_ends_a_job_leaves_what_the_next_attempt_has_begun() {
    let place = Place::new();
    let (storage, base) = (&place.storage, place.uri(""));
    storage.take_over(&base, 1).await.unwrap();
    place.commit(1, 1).await.unwrap();
    // It has been here, and not yet deleted what is the first one's.
    fs::create_dir(place.path(".attempt-2")).unwrap();
    storage.discard_all_owned(&base, 1).await.unwrap();
    assert_eq!(place.names(), [".attempt-2"]);
}

/// What one attempt does while the next takes over is wholly before or wholly after.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_done_at_the_same_time_is_seen_or_refused() {
    let (mut seen, mut refused) = (0, 0);
    for round in 0..200 {
        let place = Place::new();
        let (storage, base) = (place.storage.clone(), place.uri(""));
        storage.take_over(&base, 1).await.unwrap();
        place.commit(1, 1).await.unwrap();
        let (directory, metadata) = place.written(2).await;
        let other = storage.clone();
        let (old, gone) = (place.uri("chk-1"), base.clone());
        let mut late = JoinSet::new();
        late.spawn(async move {
            for _ in 0..round % 20 {
                tokio::task::yield_now().await;
            }
            let commit = other.commit_owned(&directory, &metadata, 1, Finish::Durable);
            let committed = commit.await;
            (committed, other.discard_owned(&old, 1).await)
        });
        // A file that comes to be while its directory is deleted is in the way of that, on a local file system.
        while storage.take_over(&gone, 2).await.is_err() {}
        let found = place.complete().await;
        let (committed, discarded) = late.join_next().await.unwrap().unwrap();
        if committed.is_ok() {
            seen += 1;
            assert!(found.contains(&2), "it was told to be complete");
        } else {
            refused += 1;
            assert!(is_superseded(committed));
        }
        assert_eq!(place.complete().await, found, "nothing changes afterwards");
        assert!(discarded.is_err() || !found.contains(&1), "{discarded:?}");
    }
    assert!(seen > 0 && refused > 0, "{seen} seen, {refused} refused");
}
