# SPDX-License-Identifier: GPL-2.0-only
# Each target calls one program. It makes everything else itself, from nothing, in ~/.cache/iommuctl
# (IOMMUCTL_CACHE=... puts that elsewhere; IOMMUCTL_KVM=1 uses the processor's virtualization).

.PHONY: help demo test test-full module clean-cache

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile

demo: ## Show the main job in a virtual machine; the last line is "demo: PASS" or says why not
	@tests/testbed.sh demo

test: ## Every check; the last line is the summary of the end-to-end suites
	@tests/testbed.sh test

test-full: ## The same, with the long forms of the suites
	@tests/testbed.sh test-full

module: ## Build iommu_live.ko for the newest kernel of Debian stable-backports
	@tests/testbed.sh module

clean-cache: ## Remove everything that was made outside the checkout
	@tests/testbed.sh clean-cache
