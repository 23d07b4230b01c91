//! Whose code runs: so that a panic or an error is told with the name of the operator it came from.

use std::cell::Cell;
use std::sync::Arc;

thread_local! {
    static CURRENT: Cell<Option<Arc<str>>> = const { Cell::new(None) };
}

/// Runs `code` as the operator's. When it returns, the operator that called is at work again; when it panics, the name stays,
/// for [`current_operator`] to tell after the panic was caught.
pub fn attribute<R>(operator: &Arc<str>, code: impl FnOnce() -> R) -> R {
    let caller = CURRENT.replace(Some(Arc::clone(operator)));
    let result = code();
    CURRENT.set(caller);
    result
}

/// Name of the operator whose code runs on this thread, or ran when the panic that was just caught began.
pub fn current_operator() -> Option<String> {
    let current = CURRENT.take();
    let name = current.as_deref().map(str::to_owned);
    CURRENT.set(current);
    name
}

/// Runs code of another task in the midst of an operator's, which is at work again when it returns.
pub fn apart<R>(code: impl FnOnce() -> R) -> R {
    let caller = CURRENT.take();
    let result = code();
    CURRENT.set(caller);
    result
}

/// Forgets the operator: a new task begins on this thread.
pub fn forget_operator() {
    CURRENT.set(None);
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[test]
    fn a_panic_names_the_innermost_operator_at_work() {
        let result = catch_unwind(AssertUnwindSafe(|| {
            attribute(&name("outer"), || {
                attribute(&name("inner"), || panic!("no"))
            })
        }));
        assert!(result.is_err());
        assert_eq!(current_operator().as_deref(), Some("inner"));
        forget_operator();
    }

    #[test]
    fn a_panic_after_a_downstream_call_returned_names_the_caller() {
        let result = catch_unwind(AssertUnwindSafe(|| {
            attribute(&name("outer"), || {
                attribute(&name("inner"), || ());
                panic!("no")
            })
        }));
        assert!(result.is_err());
        assert_eq!(current_operator().as_deref(), Some("outer"));
        forget_operator();
    }

    #[test]
    fn nobody_is_at_work_after_all_have_returned() {
        attribute(&name("map"), || {
            assert_eq!(current_operator().as_deref(), Some("map"));
        });
        assert_eq!(current_operator(), None);
    }
}
