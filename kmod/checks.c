// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the module asks of the running kernel before it touches anything, and
 * its parameter. One thin function each, as in helpers.c.
 */
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/panic.h>
#include <linux/pgtable.h>
#ifdef CONFIG_ARM64
#include <asm/barrier.h>
#include <asm/sysreg.h>
#endif

bool iommu_live_unaudited_allowed(void);
bool iommu_live_kernel_is_livepatched(void);
bool iommu_live_is_writable(const void *address);

static bool allow_unaudited;
module_param(allow_unaudited, bool, 0444);
MODULE_PARM_DESC(allow_unaudited,
		 "Switch although this kernel's code was not audited (default: refuse to be loaded)");

bool iommu_live_unaudited_allowed(void)
{
	return allow_unaudited;
}

/* The mark stays when a patch is taken back. */
bool iommu_live_kernel_is_livepatched(void)
{
	return test_taint(TAINT_LIVEPATCH);
}

/*
 * Whether the kernel may write at an address of its image. What it is not
 * known how to find out for is not writable.
 */
bool iommu_live_is_writable(const void *address)
{
#if defined(CONFIG_X86)
	/* All levels above the last one are writable in the kernel's half. */
	unsigned int level;
	pte_t *pte = lookup_address((unsigned long)address, &level);

	return pte && pte_present(*pte) && pte_write(*pte);
#elif defined(CONFIG_ARM64)
	/*
	 * Has the MMU translate a write, as is_spurious_el1_translation_fault()
	 * in arch/arm64/mm/fault.c does with a read. The result is in a register
	 * that an interrupt may overwrite.
	 */
	unsigned long flags;
	u64 par;

	local_irq_save(flags);
	asm volatile("at s1e1w, %0" : : "r" (address));
	isb();
	par = read_sysreg_par();
	local_irq_restore(flags);
	return !(par & SYS_PAR_EL1_F);
#else
	return false;
#endif
}
