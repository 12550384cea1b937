//! What is derived and not yet right: who owes that, and who learns of it.

/// A debt: what is derived lags behind what it is made from. Whoever has brought it up to date says so; dropping this says that
/// nobody did, and then it counts among the [casualties](super::Store::casualties).
pub struct Behind(Option<Settle>);

/// Told whether the debt was paid.
type Settle = Box<dyn FnOnce(bool) + Send + Sync>;

impl Behind {
    /// A debt; `settle` is called once, and told whether it was paid.
    #[must_use]
    pub fn new(settle: impl FnOnce(bool) + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(settle)))
    }

    /// A debt that nobody keeps a record of.
    #[must_use]
    pub const fn untold() -> Self {
        Self(None)
    }

    /// Says that what is derived is right again, and durable or about to be.
    pub fn caught_up(mut self) {
        self.settle(true);
    }

    fn settle(&mut self, paid: bool) {
        if let Some(settle) = self.0.take() {
            settle(paid);
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.settle(false);
    }
}
