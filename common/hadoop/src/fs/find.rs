//! Walking directories along a pattern.

use super::{FileStatus, FileSystem, FsError, FsPath, glob};

impl FileSystem {
    /// All paths that match, sorted, each once; none is no error.
    ///
    /// `*`, `?`, `[a-c]`, `[^a]` and `{a,b}` may stand in any component, `\` takes a character's meaning away.
    ///
    /// # Errors
    /// [`FsError::InvalidPath`] for a pattern that is not finished; see [`FsError`].
    pub async fn glob(&self, pattern: &str) -> Result<Vec<FileStatus>, FsError> {
        let resolved = self.resolve(pattern)?;
        let mut found = Vec::new();
        for pattern in glob::parse(resolved.path())? {
            found.extend(self.glob_one(&resolved, &pattern).await?);
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found.dedup_by(|a, b| a.path == b.path);
        Ok(found)
    }

    /// Whether [`Self::glob`] would look for more than one path.
    #[must_use]
    pub fn is_glob(text: &str) -> bool {
        glob::has_pattern(text)
    }

    async fn glob_one(
        &self,
        on: &FsPath,
        pattern: &glob::Pattern,
    ) -> Result<Vec<FileStatus>, FsError> {
        // Paths so far; a status where a listing gave one.
        let mut found: Vec<(FsPath, Option<FileStatus>)> =
            vec![(on.with_path("/".to_owned()), None)];
        for component in &pattern.components {
            let mut next = Vec::new();
            for (path, status) in found {
                match component {
                    glob::Component::Literal(name) => next.push((path.child(name), None)),
                    glob::Component::Matching(tokens) => {
                        let directory = match status {
                            Some(status) => status.is_dir,
                            None => self
                                .stat_if_there(&path)
                                .await?
                                .is_some_and(|status| status.is_dir),
                        };
                        if !directory {
                            continue;
                        }
                        let entries = match self.list(&path).await {
                            Ok(entries) => entries,
                            Err(FsError::NotFound { .. }) => continue,
                            Err(error) => return Err(error),
                        };
                        next.extend(entries.into_iter().filter_map(|entry| {
                            let fits = glob::matches(tokens, entry.path.name()?);
                            fits.then(|| (entry.path.clone(), Some(entry)))
                        }));
                    }
                }
            }
            found = next;
        }
        let mut statuses = Vec::new();
        for (path, status) in found {
            match status {
                Some(status) => statuses.push(status),
                None => statuses.extend(self.stat_if_there(&path).await?),
            }
        }
        Ok(statuses)
    }

    async fn stat_if_there(&self, path: &FsPath) -> Result<Option<FileStatus>, FsError> {
        match self.stat(path).await {
            Ok(status) => Ok(Some(status)),
            Err(FsError::NotFound { .. } | FsError::NotADirectory { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
