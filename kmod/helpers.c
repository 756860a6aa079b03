// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kernel inline functions and macros that Rust cannot call, one thin function
 * each, as in the kernel's own rust/helpers. No logic lives here.
 */
#include <linux/audit.h>
#include <linux/bottom_half.h>
#include <linux/cpumask.h>
#include <linux/cred.h>
#include <linux/kmemleak.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/percpu.h>
#include <linux/ratelimit.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uidgid.h>
#include <linux/workqueue.h>

void iommu_live_bh_disable(void);
void iommu_live_bh_enable(void);
void *iommu_live_per_cpu_ptr(void __percpu *ptr, int cpu);
int iommu_live_next_possible_cpu(int cpu);
uid_t iommu_live_current_uid(void);
uid_t iommu_live_current_login_uid(void);
pid_t iommu_live_current_tgid(void);
u64 iommu_live_current_started_ns(void);
void iommu_live_current_comm(char *buf);
bool iommu_live_may_report_denied(void);
void iommu_live_keeps(const void *memory);
bool iommu_live_dev_is_untrusted(struct device *dev);
struct workqueue_struct *iommu_live_queue(void);
bool iommu_live_lock_keeps_sleepers(spinlock_t *lock);
void iommu_live_set_show(struct kobj_attribute *attribute,
			 ssize_t (*show)(struct kobject *,
					 struct kobj_attribute *, char *));

const char iommu_live_version[] = IOMMU_LIVE_VERSION;
MODULE_VERSION(IOMMU_LIVE_VERSION);

void iommu_live_bh_disable(void)
{
	local_bh_disable();
}

void iommu_live_bh_enable(void)
{
	local_bh_enable();
}

void *iommu_live_per_cpu_ptr(void __percpu *ptr, int cpu)
{
	return per_cpu_ptr(ptr, cpu);
}

/* Start with -1; a negative result ends the walk. */
int iommu_live_next_possible_cpu(int cpu)
{
	unsigned int next = cpumask_next(cpu, cpu_possible_mask);

	return next < nr_cpu_ids ? (int)next : -1;
}

void iommu_live_keeps(const void *memory)
{
	kmemleak_not_leak(memory);
}

/* As the initial user namespace sees it: that is who the audit trail names. */
uid_t iommu_live_current_uid(void)
{
	return from_kuid(&init_user_ns, current_uid());
}

pid_t iommu_live_current_tgid(void)
{
	return task_tgid_nr(current);
}

/* -1 for what no login started, and without CONFIG_AUDITSYSCALL. */
uid_t iommu_live_current_login_uid(void)
{
	return from_kuid(&init_user_ns, audit_get_loginuid(current));
}

/*
 * When the process started, as the 22nd field of /proc/PID/stat says it in
 * clock ticks. With its number this names one process for ever.
 */
u64 iommu_live_current_started_ns(void)
{
	return current->group_leader->start_boottime;
}

/* buf has TASK_COMM_LEN bytes. */
void iommu_live_current_comm(char *buf)
{
	char comm[TASK_COMM_LEN];

	get_task_comm(comm, current);
	memcpy(buf, comm, sizeof(comm));
}

/* Who may not write must not be able to flood those who listen. */
bool iommu_live_may_report_denied(void)
{
	/* Not ratelimit_set_flags(): that starts it anew on recent kernels. */
	static struct ratelimit_state denied = RATELIMIT_STATE_INIT_FLAGS(
		denied, 5 * HZ, 20, RATELIMIT_MSG_ON_RELEASE);

	return __ratelimit(&denied);
}

/*
 * A switch does little but wait, and none waits for another: as many at a time
 * as the kernel allows. One of them goes on even without memory for a thread:
 * until it has its answer, a writer keeps others, and the group, from going.
 * (Without memory, that one can wait for a writer who waits for a thread.)
 */
struct workqueue_struct *iommu_live_queue(void)
{
	return alloc_workqueue("iommu_live", WQ_UNBOUND | WQ_MEM_RECLAIM,
			       WQ_MAX_ACTIVE);
}

/*
 * Whether somebody holds the lock or sleeps for it. Where spin locks spin,
 * nobody sleeps.
 */
bool iommu_live_lock_keeps_sleepers(spinlock_t *lock)
{
#ifdef CONFIG_PREEMPT_RT
	/* While there are waiters, the owner is not NULL: it has a bit set. */
	return rt_mutex_base_is_locked(&lock->lock);
#else
	return false;
#endif
}

void iommu_live_set_show(struct kobj_attribute *attribute,
			 ssize_t (*show)(struct kobject *,
					 struct kobj_attribute *, char *))
{
	attribute->show = show;
}

/* The same test as dev_is_untrusted() in drivers/iommu/dma-iommu.c. */
bool iommu_live_dev_is_untrusted(struct device *dev)
{
	return dev_is_pci(dev) && to_pci_dev(dev)->untrusted;
}
