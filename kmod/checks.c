// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the module asks of the running kernel before it touches anything, and
 * its parameter. One thin function each, as in helpers.c.
 */
#include <linux/module.h>
#include <linux/panic.h>

bool iommu_live_unaudited_allowed(void);
bool iommu_live_kernel_is_livepatched(void);

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
