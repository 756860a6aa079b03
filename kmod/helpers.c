// SPDX-License-Identifier: GPL-2.0-only
/*
 * Kernel inline functions and macros that Rust cannot call, one thin function
 * each, as in the kernel's own rust/helpers. No logic lives here.
 */
#include <linux/audit.h>
#include <linux/bottom_half.h>
#include <linux/bug.h>
#include <linux/cpumask.h>
#include <linux/cred.h>
#include <linux/delay.h>
#include <linux/device/bus.h>
#include <linux/kmemleak.h>
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/percpu.h>
#include <linux/platform_device.h>
#include <linux/ratelimit.h>
#include <linux/rcupdate.h>
#include <linux/rcupdate_wait.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uidgid.h>
#include <linux/workqueue.h>

#include "helpers.h"

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
 * The cleaner: one work item for all groups, and one for each group that would
 * hold it up, in a queue of their own, so that the module's exit can wait for
 * them and so that the first goes on without memory for a thread.
 */
static void clean(struct work_struct *work)
{
	iommu_live_clean();
}

static DECLARE_WORK(cleaner, clean);
static struct workqueue_struct *cleaners;

int iommu_live_cleaner_create(void)
{
	cleaners = alloc_workqueue("iommu_live", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	return cleaners ? 0 : -ENOMEM;
}

/* Does nothing where it is queued; where it runs, it will run once more. */
void iommu_live_cleaner_kick(void)
{
	queue_work(cleaners, &cleaner);
}

struct workqueue_struct *iommu_live_cleaner_queue(void)
{
	return cleaners;
}

void iommu_live_cleaner_destroy(void)
{
	destroy_workqueue(cleaners);
}

/*
 * A sleep that counts neither as load nor as a task that hangs, and in which a
 * task may be frozen.
 */
void iommu_live_nap(unsigned int ms)
{
	usleep_range_state(ms * USEC_PER_MSEC, ms * USEC_PER_MSEC + 500,
			   TASK_IDLE | TASK_FREEZABLE);
}

void iommu_live_cond_resched(void)
{
	cond_resched();
}

/*
 * Grace periods that are looked at instead of waited for. wakeme_after_rcu()
 * is the kernel's: no callback of this module is ever left.
 */
struct iommu_live_grace *iommu_live_grace_alloc(void)
{
	return kzalloc(sizeof(struct rcu_synchronize), GFP_KERNEL);
}

void iommu_live_grace_free(struct iommu_live_grace *grace)
{
	kfree(grace);
}

void iommu_live_grace_begin(struct iommu_live_grace *grace, bool tasks)
{
	struct rcu_synchronize *wait = (struct rcu_synchronize *)grace;

	init_completion(&wait->completion);
	if (tasks)
		call_rcu_tasks(&wait->head, wakeme_after_rcu);
	else
		call_rcu_hurry(&wait->head, wakeme_after_rcu);
}

bool iommu_live_grace_over(struct iommu_live_grace *grace)
{
	return completion_done(&((struct rcu_synchronize *)grace)->completion);
}

int iommu_live_mutex_lock_killable(struct mutex *lock)
{
	return mutex_lock_killable(lock);
}

bool iommu_live_mutex_trylock(struct mutex *lock)
{
	return mutex_trylock(lock);
}

/* How long this task has waited for a CPU, in ns, since it was made. */
u64 iommu_live_run_delay(void)
{
#ifdef CONFIG_SCHED_INFO
	return current->sched_info.run_delay;
#else
	return 0;
#endif
}

unsigned long iommu_live_spin_lock(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

void iommu_live_spin_unlock(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}

void iommu_live_list_move(struct list_head *from, struct list_head *to)
{
	INIT_LIST_HEAD(to);
	list_splice_init(from, to);
}

bool iommu_live_module_get(void)
{
	return try_module_get(THIS_MODULE);
}

void iommu_live_module_put(void)
{
	module_put(THIS_MODULE);
}

void iommu_live_warn(const char *what, int group)
{
	WARN_ONCE(1, "iommu_live: group %d: %s\n", group, what);
}

/* Unmaps that went through a strict entry. */
static DEFINE_PER_CPU(u64, strict_entries);

void iommu_live_count_strict_entry(void)
{
	this_cpu_inc(strict_entries);
}

u64 iommu_live_strict_entries(void)
{
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(&strict_entries, cpu));
	return sum;
}

/*
 * A device has left its driver and is about to leave its group. The IOMMU
 * core's own notifier, which may free the group's domain, has no priority.
 */
static int device_removed(struct notifier_block *block, unsigned long action,
			  void *device)
{
	if (action == BUS_NOTIFY_REMOVED_DEVICE)
		iommu_live_device_removed(device);
	return NOTIFY_DONE;
}

static struct notifier_block pci_devices = {
	.notifier_call = device_removed,
	.priority = INT_MAX,
};

static struct notifier_block platform_devices = {
	.notifier_call = device_removed,
	.priority = INT_MAX,
};

int iommu_live_watch_devices(void)
{
	int error = bus_register_notifier(&pci_bus_type, &pci_devices);

	if (error)
		return error;
	error = bus_register_notifier(&platform_bus_type, &platform_devices);
	if (error)
		bus_unregister_notifier(&pci_bus_type, &pci_devices);
	return error;
}

void iommu_live_unwatch_devices(void)
{
	bus_unregister_notifier(&platform_bus_type, &platform_devices);
	bus_unregister_notifier(&pci_bus_type, &pci_devices);
}

/*
 * Whether nobody holds the lock or sleeps for it. Where spin locks spin,
 * nobody sleeps.
 */
bool iommu_live_lock_is_free(spinlock_t *lock)
{
#ifdef CONFIG_PREEMPT_RT
	/* While there are waiters, the owner is not NULL: it has a bit set. */
	return !rt_mutex_base_is_locked(&lock->lock);
#else
	return true;
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
