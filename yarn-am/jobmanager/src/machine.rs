//! What a machine is: inputs in, effects out, time as an argument.

use spindle_common::time::MonoTime;

/// A state machine of the control plane.
pub trait Machine {
    /// What can happen to it.
    type Input;
    /// What it wants done.
    type Effect;

    /// Takes one input and puts what is to be done into the outbox.
    fn handle(&mut self, now: MonoTime, input: Self::Input, out: &mut Outbox<'_, Self::Effect>);

    /// When the driver shall feed the machine's tick, if nothing happens before.
    fn deadline(&self) -> Option<MonoTime>;
}

/// Where a machine puts its effects, in order.
///
/// A machine lends a part of itself a narrowed outbox with [`Outbox::scope`], so that nothing is collected and mapped.
pub struct Outbox<'a, E> {
    sink: &'a mut dyn FnMut(E),
}

impl<'a, E> Outbox<'a, E> {
    /// An outbox that hands each effect to `sink`.
    pub fn new(sink: &'a mut dyn FnMut(E)) -> Self {
        Self { sink }
    }

    /// Asks for an effect.
    pub fn push(&mut self, effect: E) {
        (self.sink)(effect);
    }

    /// Runs `f` with an outbox of a part's own effects, each wrapped by `wrap`.
    pub fn scope<P>(&mut self, wrap: impl Fn(P) -> E, f: impl FnOnce(&mut Outbox<'_, P>)) {
        let sink = &mut self.sink;
        f(&mut Outbox::new(&mut |part| sink(wrap(part))));
    }
}
