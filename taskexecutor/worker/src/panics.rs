//! What a panic on a task's thread said, and where.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Present while a task's code runs on this thread.
    static CAPTURED: RefCell<Option<Option<String>>> = const { RefCell::new(None) };
}

/// Runs a task's code.
///
/// # Errors
/// If it panics: `panicked at <file>:<line>: <message>`.
pub(crate) fn catch<R>(code: impl FnOnce() -> R) -> Result<R, String> {
    install();
    // A task that waits in the midst of its code lets others of its thread run theirs.
    let outer = CAPTURED.replace(Some(None));
    let result = catch_unwind(AssertUnwindSafe(code));
    let captured = CAPTURED.replace(outer).flatten();
    result
        .map_err(|payload| captured.unwrap_or_else(|| format!("panicked: {}", message(&*payload))))
}

/// Once for the process; panics of other threads go where they went before.
fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !capture(info) {
                previous(info);
            }
        }));
    });
}

fn capture(info: &PanicHookInfo<'_>) -> bool {
    CAPTURED.with_borrow_mut(|captured| {
        let Some(first) = captured else {
            return false;
        };
        // The first panic is the cause; another can only come while it unwinds.
        first.get_or_insert_with(|| {
            let text = message(info.payload());
            match info.location() {
                Some(location) => format!(
                    "panicked at {}:{}: {text}",
                    location.file(),
                    location.line()
                ),
                None => format!("panicked: {text}"),
            }
        });
        true
    })
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_place_and_message() {
        let line = line!() + 1;
        let told = catch(|| panic!("no {}", "luck")).unwrap_err();
        assert_eq!(told, format!("panicked at {}:{line}: no luck", file!()));
        assert_eq!(catch(|| 1), Ok(1));
        let odd = catch(|| panic::panic_any(7)).unwrap_err();
        assert!(odd.ends_with("without a message"), "{odd}");
    }
}
