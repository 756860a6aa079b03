// SPDX-License-Identifier: GPL-2.0-only

//! A domain from its tighten until nothing of that is left.
//!
//! A [`Cleanup`] belongs to one group. It is registered before the group is locked, since that may
//! fail; activated by the first tighten that needs it; used again by later tightens of the same
//! group that come before it has ended; and ended by the cleaner ([`crate::cleaner`]).

use crate::{
    counters,
    drivers::{self, Audited},
    ffi::{
        iommu_live_cleaner_kick, iommu_live_cleaner_queue, iommu_live_module_get,
        iommu_live_module_put,
    },
    grace_period::GracePeriod,
    private_structs::{
        now_ns, Domain, Group, GroupCell, KeptGroup, LockedGroup, Rings, TimerFunction,
    },
    protocol::{self, Machine, Next, Step},
    registry,
    report::Done,
    strict_ops::{Spare, StrictCopy},
    symbol,
    unmap_table::{Operations, Table},
};
use core::{cell::Cell, ffi::c_void, ptr::null_mut};
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed, Release};
use kernel::sync::{new_mutex, Arc, Mutex};
use kernel::workqueue::{impl_has_work, new_work, Queue, Work, WorkItem};

mod machine;

use machine::Bound;

/// What a tighten found, and did.
pub(crate) enum Tightened {
    /// It made the domain strict.
    Done(Done),
    /// The domain was strict.
    Already,
    /// No domain that this module may switch: nothing was done.
    NotOurs,
    /// An invariant was seen broken, now or earlier: nothing was done.
    Tripped,
}

/// What a relax found, and did.
pub(crate) enum Relaxation {
    /// It made the domain lazy.
    Done,
    /// No clean-up is under way: the kernel's own code is to do it.
    NotOurs,
    /// As [`Tightened::Tripped`].
    Tripped,
}

/// A reference of this module.
struct ModuleReference;

impl ModuleReference {
    /// `None` if the module is about to leave.
    fn get() -> Option<Self> {
        // SAFETY: The module's own code is running, so it is there.
        unsafe { iommu_live_module_get() }.then(|| Self)
    }
}

impl Drop for ModuleReference {
    fn drop(&mut self) {
        // SAFETY: Taken by `get`. Whoever drops the last one is a writer, whom the exit counts, or
        // the cleaner, for whom it waits.
        unsafe { iommu_live_module_put() };
    }
}

/// The domain that was tightened, as it was found.
///
/// # Invariants
///
/// `copy` is NULL, or a copy of `original` that is alive as long as the clean-up is active.
#[derive(Clone, Copy)]
struct Target {
    /// Only compared with: the domain may have gone.
    domain: *mut bindings::iommu_domain,
    table: Table,
    original: *mut Operations,
    copy: *mut Operations,
    rings: Rings,
    /// The `mod_mask` of each ring.
    mask: u32,
    timer_function: TimerFunction,
}

impl Target {
    /// What the domain has that is needed for a tighten; `None` if it is not ours to tighten.
    fn find<'a>(domain: Domain<'a>) -> Option<(Self, Audited<'a>)> {
        if domain.domain_type() != bindings::IOMMU_DOMAIN_DMA_FQ {
            return None;
        }
        let cookie = domain.dma_cookie()?;
        if cookie.fq_domain().load(Relaxed) != domain.as_ptr() {
            return None;
        }
        let rings = cookie.rings()?;
        let timer_function = cookie.timer_function()?;
        if !symbol::is(timer_function as *const c_void, "fq_flush_timeout") {
            return None;
        }
        // SAFETY: `fq_domain` is set, so they were made, and stay as long as the group's mutex is
        // held.
        let mask = unsafe { common_mask(rings)? };
        let audited = drivers::audit(domain)?;
        let original = audited.slot.load(Relaxed);
        let target = Self {
            domain: domain.as_ptr(),
            table: audited.table,
            original,
            // INVARIANT: There is none yet.
            copy: null_mut(),
            rings,
            mask,
            timer_function,
        };
        Some((target, audited))
    }
}

/// The `mod_mask` of the rings, if all have the same, and it is one.
///
/// # Safety
///
/// As [`Rings::each`].
unsafe fn common_mask(rings: Rings) -> Option<u32> {
    let (mut common, mut same) = (None, true);
    // SAFETY: By this function's requirements.
    unsafe {
        rings.each(|ring| {
            let mask = ring.mask();
            same &= *common.get_or_insert(mask) == mask;
        });
    }
    common.filter(|mask| same && *mask != 0 && mask.wrapping_add(1).is_power_of_two())
}

/// What the group's mutex guards.
struct State {
    step: Cell<Step>,
    /// How often `step` has been set.
    generation: Cell<u64>,
    target: Cell<Option<Target>>,
    copy: Cell<Option<StrictCopy>>,
    /// Rings of ours whose place others have taken.
    aside: Cell<Option<Rings>>,
    group: Cell<Option<KeptGroup>>,
    module: Cell<Option<ModuleReference>>,
    /// The cookie's count of flushes when all rings were armed and the timer had stopped: those since
    /// then are late comers'.
    flushes_before: Cell<u64>,
    drained: Cell<u64>,
    late_comers: Cell<u64>,
    collected: Cell<u64>,
    /// The clean-up got past [`Step::Cleared`].
    cleared: Cell<bool>,
}

// SAFETY: Its pointers are to memory that any thread may follow with the group's mutex held, or are
// only compared with.
unsafe impl Send for State {}

impl State {
    fn new() -> Self {
        Self {
            step: Cell::new(Step::Restored),
            generation: Cell::new(0),
            target: Cell::new(None),
            copy: Cell::new(None),
            aside: Cell::new(None),
            group: Cell::new(None),
            module: Cell::new(None),
            flushes_before: Cell::new(0),
            drained: Cell::new(0),
            late_comers: Cell::new(0),
            collected: Cell::new(0),
            cleared: Cell::new(false),
        }
    }

    fn given_up(&self) -> u64 {
        self.late_comers.get().saturating_sub(self.collected.get())
    }
}

/// What `/sys/kernel/iommu_live/cleanups` shows of it, for whom no lock is taken.
struct Shown {
    active: Atomic<bool>,
    /// A tighten has come since the cleaner looked: late comers are expected.
    news: Atomic<bool>,
    step: Atomic<u32>,
    strict_since: Atomic<i64>,
    late_comers: Atomic<u64>,
    collected: Atomic<u64>,
    given_up: Atomic<u64>,
}

/// What the cleaner waits for.
pub(crate) struct Waiting {
    grace: GracePeriod,
    /// What [`Machine::position`] told when it began; 0 before the first one.
    since: u64,
    /// When it looks for late comers again, on the monotonic clock.
    next_look: i64,
    /// When it last found one, or began.
    last_found: i64,
    /// When it first found the group's mutex taken, of those times since it got it; 0 if it has it.
    locked_out: i64,
    /// Its own work item goes on with it: the group would hold up others.
    handed_over: bool,
    /// What is left when it has ended.
    left: Option<Left>,
}

/// See the module.
#[pin_data]
pub(crate) struct Cleanup {
    id: i32,
    group: Group<'static>,
    state: GroupCell<State>,
    shown: Shown,
    #[pin]
    waiting: Mutex<Waiting>,
    #[pin]
    work: Work<Cleanup>,
}

impl_has_work! {
    impl HasWork<Self> for Cleanup { self.work }
}

// SAFETY: The group is only followed while somebody holds a reference of it, or writes its file.
unsafe impl Send for Cleanup {}
// SAFETY: As above; everything else is `Sync`.
unsafe impl Sync for Cleanup {}

impl Cleanup {
    /// Whether it is this group's.
    pub(crate) fn is_of(&self, group: Group<'_>) -> bool {
        self.state.is_of(group)
    }

    /// Whether it is more than reserved, and has not ended.
    pub(crate) fn is_active(&self) -> bool {
        self.shown.active.load(Relaxed)
    }

    /// Whether it will end, and the cleaner has to see to that.
    pub(crate) fn is_under_way(&self) -> bool {
        self.is_active() && self.shown.step.load(Relaxed) != TRIPPED
    }

    /// Whether the domain is not what it was before the tighten.
    fn is_current(&self, locked: &LockedGroup<'_>) -> bool {
        self.is_active()
            && self
                .state
                .get(locked)
                .is_some_and(|state| state.step.get() != Step::Restored)
    }

    /// Whether it can be used for another tighten of this table.
    fn serves(&self, locked: &LockedGroup<'_>, target: &Target) -> bool {
        self.is_active()
            && self.state.get(locked).is_some_and(|state| {
                let aside = state.aside.get();
                state.step.get() == Step::Restored
                    && aside.is_none()
                    && state.target.get().is_some_and(|old| {
                        old.table == target.table && old.original == target.original
                    })
            })
    }

    fn bind<'a>(&'a self, locked: &'a LockedGroup<'a>) -> Option<Bound<'a>> {
        Some(Bound {
            cleanup: self,
            state: self.state.get(locked)?,
            locked,
        })
    }

    /// A line of `/sys/kernel/iommu_live/cleanups`.
    pub(crate) fn show(&self) -> Line {
        let shown = &self.shown;
        Line {
            group: self.id,
            step: match shown.step.load(Relaxed) {
                ARMED => "armed",
                CLEARED => "cleared",
                TRIPPED => "tripped",
                _ => "restored",
            },
            strict_since_ns: shown.strict_since.load(Relaxed),
            late_comers: shown.late_comers.load(Relaxed),
            collected: shown.collected.load(Relaxed),
            given_up: shown.given_up.load(Relaxed),
        }
    }
}

/// See [`Cleanup::show`].
pub(crate) struct Line {
    pub(crate) group: i32,
    pub(crate) step: &'static str,
    /// On the clock that goes on while the machine sleeps; 0 if it is not strict.
    pub(crate) strict_since_ns: i64,
    pub(crate) late_comers: u64,
    pub(crate) collected: u64,
    pub(crate) given_up: u64,
}

const ARMED: u32 = 1;
const CLEARED: u32 = 2;
const RESTORED: u32 = 3;
const TRIPPED: u32 = 4;

/// A clean-up that is registered, and not active unless [`tighten`] needed it.
pub(crate) struct Reserved {
    cleanup: Arc<Cleanup>,
    spare: Option<Spare>,
    module: Option<ModuleReference>,
}

impl Reserved {
    /// Allocates all that a tighten of `group` may need. `ENOMEM`; `ENODEV` if the module is about
    /// to leave.
    ///
    /// Must not be called with the group's mutex held: to reclaim memory may mean to wait for a
    /// device whose recovery needs that mutex.
    pub(crate) fn new(group: Group<'_>) -> Result<Self> {
        let module = ModuleReference::get().ok_or(ENODEV)?;
        let spare = Spare::allocate()?;
        let waiting = Waiting {
            grace: GracePeriod::new()?,
            since: 0,
            next_look: 0,
            last_found: 0,
            locked_out: 0,
            handed_over: false,
            left: None,
        };
        let raw = group.as_ptr();
        let cleanup = Arc::pin_init(
            pin_init!(Cleanup {
                id: group.id(),
                // SAFETY: Only followed while a writer of its file is there, or the reference that
                // `activate` takes.
                group: unsafe { Group::from_raw(raw) },
                state: GroupCell::new(raw, State::new()),
                shown: Shown {
                    active: Atomic::new(false),
                    news: Atomic::new(false),
                    step: Atomic::new(RESTORED),
                    strict_since: Atomic::new(0),
                    late_comers: Atomic::new(0),
                    collected: Atomic::new(0),
                    given_up: Atomic::new(0),
                },
                waiting <- new_mutex!(waiting),
                work <- new_work!("Cleanup::work"),
            }),
            GFP_KERNEL,
        )?;
        registry::add(&cleanup)?;
        Ok(Self {
            cleanup,
            spare: Some(spare),
            module: Some(module),
        })
    }

    /// Makes it the group's.
    fn activate(
        &mut self,
        locked: &LockedGroup<'_>,
        audited: &Audited<'_>,
    ) -> Option<&Arc<Cleanup>> {
        let state = self.cleanup.state.get(locked)?;
        let copy = StrictCopy::of(audited, self.spare.take()?)?;
        state.group.set(Some(locked.keep()?));
        state.copy.set(Some(copy));
        state.module.set(self.module.take());
        self.cleanup.shown.active.store(true, Release);
        Some(&self.cleanup)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.cleanup.is_active() {
            registry::remove(&self.cleanup);
        }
    }
}

/// Makes the group's default domain strict, and wakes the cleaner. `started` is when the writer
/// asked.
pub(crate) fn tighten(
    locked: &LockedGroup<'_>,
    reserved: &mut Reserved,
    started: i64,
) -> Tightened {
    if counters::TRIPPED.get() != 0 {
        return Tightened::Tripped;
    }
    if current(locked, |bound| protocol::settle(bound)) == Some(true) {
        return Tightened::Already;
    }
    if counters::TRIPPED.get() != 0 {
        return Tightened::Tripped;
    }
    let Some(domain) = locked.default_domain() else {
        return Tightened::NotOurs;
    };
    let strict = domain.domain_type() == bindings::IOMMU_DOMAIN_DMA
        && domain
            .dma_cookie()
            .is_some_and(|cookie| cookie.fq_domain().load(Relaxed).is_null());
    if strict {
        return Tightened::Already;
    }
    make_strict(locked, domain, reserved, started).unwrap_or(Tightened::NotOurs)
}

fn make_strict(
    locked: &LockedGroup<'_>,
    domain: Domain<'_>,
    reserved: &mut Reserved,
    started: i64,
) -> Option<Tightened> {
    let (target, audited) = Target::find(domain)?;
    let again = registry::find(|cleanup| cleanup.serves(locked, &target));
    let cleanup = match &again {
        Some(cleanup) => cleanup,
        None => reserved.activate(locked, &audited)?,
    };
    let state = cleanup.state.get(locked)?;
    // To look at it is to take it out.
    let copy = state.copy.take()?;
    // INVARIANT: The copy stays in `state` until the clean-up has ended.
    state.target.set(Some(Target {
        original: copy.original(),
        copy: copy.as_ptr(),
        ..target
    }));
    state.copy.set(Some(copy));
    state.cleared.set(false);
    let strict = protocol::tighten(&mut cleanup.bind(locked)?);
    let strict_ns = now_ns().wrapping_sub(started);
    cleanup.shown.news.store(true, Relaxed);
    // SAFETY: The clean-up has a reference of the module, and does not end while the group's mutex is
    // held.
    unsafe { iommu_live_cleaner_kick() };
    if !strict {
        return Some(Tightened::Tripped);
    }
    Some(Tightened::Done(Done {
        strict_ns,
        drained: state.drained.get(),
    }))
}

/// Makes the group's default domain lazy, if its clean-up is under way; if `may_relax`.
pub(crate) fn relax<E>(
    locked: &LockedGroup<'_>,
    may_relax: impl FnOnce() -> Result<(), E>,
) -> Result<Relaxation, E> {
    if counters::TRIPPED.get() != 0 {
        return Ok(Relaxation::Tripped);
    }
    let relaxed = current(locked, |bound| {
        let ours = protocol::settle(bound);
        if ours {
            may_relax()?;
            protocol::relax(bound);
        }
        Ok(match bound.position().0 {
            Step::Tripped => Relaxation::Tripped,
            _ if ours => Relaxation::Done,
            _ => Relaxation::NotOurs,
        })
    });
    relaxed.unwrap_or(Ok(Relaxation::NotOurs))
}

/// Gives back what late comers left in the group's rings, before the kernel may free the domain.
pub(crate) fn collect(locked: &LockedGroup<'_>) {
    current(locked, |bound| {
        if protocol::settle(bound) && bound.position().0 == Step::Armed {
            bound.collect();
        }
    });
}

/// Does `act` with the group's clean-up, if its domain is one that waits for it, or for ever.
fn current<T>(locked: &LockedGroup<'_>, act: impl FnOnce(&mut Bound<'_>) -> T) -> Option<T> {
    let cleanup = registry::find(|cleanup| cleanup.is_current(locked))?;
    let mut bound = cleanup.bind(locked)?;
    Some(act(&mut bound))
}

/// How often the cleaner looks for late comers where there may be some, in nanoseconds.
const LOOK_INTERVAL: i64 = 1_000_000;
/// The same where there have been none for [`RECENT`].
const RARE_LOOK_INTERVAL: i64 = 8_000_000;
/// How long after the last late comer, or the beginning, another one is expected.
const RECENT: i64 = 200_000_000;

/// After how long without a chance at a group's mutex its clean-up queues for it, in nanoseconds. Who
/// reads the type takes it too, and may do so in a loop.
const LOCKED_OUT: i64 = 500_000_000;

/// Goes on with a clean-up as far as it goes without waiting. Only the cleaner calls this.
pub(crate) fn visit(cleanup: &Arc<Cleanup>) {
    let mut waiting = cleanup.waiting.lock();
    let now = now_ns();
    let news = cleanup.shown.news.load(Relaxed);
    if waiting.handed_over || (!news && !waiting.grace.is_over() && now < waiting.next_look) {
        return;
    }
    // Whoever has the mutex may have it for long. There are others to clean up after, and nothing is
    // lost by coming later.
    // The group stays: an active clean-up has a reference of it.
    if let Some(locked) = cleanup.group.try_lock() {
        go_on(cleanup, &mut waiting, &locked);
    } else if waiting.locked_out == 0 {
        waiting.locked_out = now;
    }
    let locked_out = waiting.locked_out != 0 && now.wrapping_sub(waiting.locked_out) > LOCKED_OUT;
    if locked_out || waiting.left.is_some() {
        waiting.handed_over = true;
        drop(waiting);
        hand_over(cleanup.clone());
    }
}

/// Lets its own work item go on with a clean-up.
fn hand_over(cleanup: Arc<Cleanup>) {
    // SAFETY: The clean-up has a reference of the module, so the queue is there until its work item
    // has run.
    let queue = unsafe { Queue::from_raw(iommu_live_cleaner_queue().cast()) };
    // It is not queued: `handed_over` was not set.
    let _ = queue.enqueue(cleanup);
}

impl WorkItem for Cleanup {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut waiting = this.waiting.lock();
        if waiting.left.is_none() {
            // The group's mutex comes before `waiting`, which nobody else needs: it was handed over.
            drop(waiting);
            let locked = this.group.lock();
            waiting = this.waiting.lock();
            go_on(&this, &mut waiting, &locked);
        }
        waiting.handed_over = false;
        let left = waiting.left.take();
        drop(waiting);
        drop(this);
        if let Some(left) = left {
            // Waits for whoever writes a file of the group, if this is its last reference.
            drop(left);
        } else {
            // SAFETY: It has not ended, so it has a reference of the module.
            unsafe { iommu_live_cleaner_kick() };
        }
    }
}

/// Goes on with a clean-up as far as it goes without waiting.
fn go_on(cleanup: &Arc<Cleanup>, waiting: &mut Waiting, locked: &LockedGroup<'_>) {
    waiting.locked_out = 0;
    let Some(mut bound) = cleanup.bind(locked) else {
        return;
    };
    let now = now_ns();
    if cleanup.shown.news.load(Relaxed) {
        cleanup.shown.news.store(false, Relaxed);
        waiting.last_found = now;
    }
    if bound.position().0 == Step::Armed && protocol::settle(&mut bound) {
        let before = bound.state.late_comers.get();
        bound.collect();
        if bound.state.late_comers.get() != before {
            waiting.last_found = now;
        }
    }
    let recent = now.wrapping_sub(waiting.last_found) < RECENT;
    let interval = if recent {
        LOOK_INTERVAL
    } else {
        RARE_LOOK_INTERVAL
    };
    waiting.next_look = now.wrapping_add(interval);
    if !waiting.grace.is_over() {
        return;
    }
    match protocol::go_on(&mut bound, waiting.since) {
        Next::GracePeriod => {
            waiting.since = bound.position().1;
            waiting.grace.begin();
        }
        Next::Soon | Next::Stay => {}
        Next::Free => waiting.left = Some(Left::take(cleanup, bound.state)),
    }
}

/// What is left of a clean-up that has ended. Fields are dropped in order.
struct Left {
    /// To drop it frees it: I5 of the protocol holds when a clean-up has ended.
    _copy: Option<StrictCopy>,
    aside: Option<Rings>,
    /// To drop it may mean to remove the group's files, which waits for everybody who writes one.
    _group: Option<KeptGroup>,
    /// The last: from here on, the module's exit may wait for the cleaner's queue.
    _module: Option<ModuleReference>,
}

impl Left {
    /// Takes it out of the clean-up, which nobody finds any more from here on.
    fn take(cleanup: &Arc<Cleanup>, state: &State) -> Self {
        if state.cleared.get() {
            counters::CLEANED_UP.add(1);
        }
        cleanup.shown.active.store(false, Relaxed);
        registry::remove(cleanup);
        Self {
            _copy: state.copy.take(),
            aside: state.aside.take(),
            _group: state.group.take(),
            _module: state.module.take(),
        }
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(rings) = self.aside.take() {
            // SAFETY: Made by the kernel, and not armed since `fq_domain` was NULL; others took their
            // place, and a grace period has passed since the last one could have found them.
            unsafe { rings.free() };
        }
    }
}
