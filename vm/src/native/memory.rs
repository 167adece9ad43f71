//! Linear memory that tells the host's refusals from the program's own limit and has large pages once it is large; the native stack.

use std::{
    ptr::NonNull,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use wasmer::{
    MemoryError, MemoryStyle, MemoryType, Pages, TableStyle, TableType,
    sys::{
        BaseTunables, Tunables,
        vm::{LinearMemory, VMConfig, VMMemory, VMMemoryDefinition, VMTable, VMTableDefinition},
    },
};

use crate::fuel::NATIVE_STACK_BYTES;

/// Memory from which on the kernel is asked for pages of 2 MiB. They are given and taken back several times as fast as those of 4 KiB,
/// of which 2 GiB take 0.15 s to take back; but each is cleared whole, which small tasks would wait for.
const LARGE: Pages = Pages(512);

/// Counts how often the host could not give memory that the job allows.
///
/// The program sees such a failure as -1, which it would not on a larger machine; so a count that rises during an
/// execution makes that execution void.
#[derive(Clone, Debug, Default)]
pub(super) struct HostFailures(Arc<AtomicU64>);

impl HostFailures {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// The engine's rules for memories, tables and its stack.
///
/// A prepared module's memories have their maximum already, and never more pages together than the job allows.
pub(super) struct Rules {
    base: BaseTunables,
    config: VMConfig,
    failures: HostFailures,
}

impl Rules {
    pub(super) fn new(failures: HostFailures) -> Self {
        let config = VMConfig { wasm_stack_size: Some(NATIVE_STACK_BYTES) };
        Self { base: BaseTunables::new(), config, failures }
    }

    fn watch(&self, inner: VMMemory) -> VMMemory {
        let mut watched = Watched { inner, failures: self.failures.clone(), large: false };
        watched.look_at_size();
        VMMemory(Box::new(watched))
    }
}

impl Tunables for Rules {
    fn memory_style(&self, memory: &MemoryType) -> MemoryStyle {
        self.base.memory_style(memory)
    }

    fn table_style(&self, table: &TableType) -> TableStyle {
        self.base.table_style(table)
    }

    fn create_host_memory(&self, ty: &MemoryType, style: &MemoryStyle) -> Result<VMMemory, MemoryError> {
        Ok(self.watch(self.base.create_host_memory(ty, style)?))
    }

    #[expect(unsafe_code, reason = "the trait's signature; the caller's promise is passed on unchanged")]
    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
        location: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        // SAFETY: the caller promises that `location` is valid, which is all that the base asks for.
        Ok(self.watch(unsafe { self.base.create_vm_memory(ty, style, location)? }))
    }

    fn create_host_table(&self, ty: &TableType, style: &TableStyle) -> Result<VMTable, String> {
        self.base.create_host_table(ty, style)
    }

    #[expect(unsafe_code, reason = "the trait's signature; the caller's promise is passed on unchanged")]
    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        location: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        // SAFETY: the caller promises that `location` is valid, which is all that the base asks for.
        unsafe { self.base.create_vm_table(ty, style, location) }
    }

    fn vmconfig(&self) -> &VMConfig {
        &self.config
    }
}

/// A memory that reports when the host, and not the cap, kept it from growing.
#[derive(Debug)]
struct Watched {
    inner: VMMemory,
    failures: HostFailures,
    large: bool,
}

impl Watched {
    /// Asks for large pages, once, for all that the memory may have.
    fn look_at_size(&mut self) {
        if self.large || self.inner.size() < LARGE {
            return;
        }
        self.large = true;
        let ty = self.inner.ty();
        if let (MemoryStyle::Static, Some(most)) = (self.inner.style(), ty.maximum) {
            large_pages(self.inner.vmmemory(), most.bytes().0);
        }
    }
}

/// Asks for large pages in the first `length` bytes of a memory that were reserved together.
#[cfg(target_os = "linux")]
fn large_pages(memory: NonNull<VMMemoryDefinition>, length: usize) {
    // SAFETY: the definition lives as long as its memory, which nobody else has while it is made or grows. The advice changes
    // neither what the bytes are nor who may use them.
    #[expect(unsafe_code, reason = "no crate here has this system call for a range of addresses")]
    unsafe {
        // A kernel without them, or that must not give them, has small ones as before.
        libc::madvise(memory.as_ref().base.cast(), length, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn large_pages(_: NonNull<VMMemoryDefinition>, _: usize) {}

impl LinearMemory for Watched {
    fn ty(&self) -> MemoryType {
        self.inner.ty()
    }

    fn size(&self) -> Pages {
        self.inner.size()
    }

    fn style(&self) -> MemoryStyle {
        self.inner.style()
    }

    fn grow(&mut self, delta: Pages) -> Result<Pages, MemoryError> {
        let grown = self.inner.grow(delta);
        if !matches!(grown, Ok(_) | Err(MemoryError::CouldNotGrow { .. })) {
            self.failures.add();
        }
        self.look_at_size();
        grown
    }

    fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
        self.inner.vmmemory()
    }

    fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        LinearMemory::try_clone(&self.inner)
    }

    fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
        LinearMemory::copy(&self.inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A memory whose host refuses with the error given.
    #[derive(Debug)]
    struct Refusing(MemoryError);

    impl LinearMemory for Refusing {
        fn ty(&self) -> MemoryType {
            MemoryType::new(Pages(1), None, false)
        }

        fn size(&self) -> Pages {
            Pages(1)
        }

        fn style(&self) -> MemoryStyle {
            MemoryStyle::Static
        }

        fn grow(&mut self, _delta: Pages) -> Result<Pages, MemoryError> {
            Err(self.0.clone())
        }

        fn vmmemory(&self) -> NonNull<VMMemoryDefinition> {
            NonNull::dangling()
        }

        fn try_clone(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
            Err(self.0.clone())
        }

        fn copy(&self) -> Result<Box<dyn LinearMemory + Send + Sync + 'static>, MemoryError> {
            Err(self.0.clone())
        }
    }

    fn failures_after_growing(error: MemoryError) -> u64 {
        let failures = HostFailures::default();
        let mut memory = Rules::new(failures.clone()).watch(VMMemory(Box::new(Refusing(error))));
        memory.grow(Pages(1)).expect_err("the memory refuses");
        failures.count()
    }

    #[test]
    fn host_without_memory_is_counted_and_the_cap_is_not() {
        assert_eq!(failures_after_growing(MemoryError::Region("mprotect failed".to_owned())), 1);
        assert_eq!(
            failures_after_growing(MemoryError::CouldNotGrow { current: Pages(2), attempted_delta: Pages(1) }),
            0
        );
    }
}
