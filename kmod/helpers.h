/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What helpers.c has for the Rust code, and what it calls there. src/ffi.rs
 * declares the same.
 */
#ifndef IOMMU_LIVE_HELPERS_H
#define IOMMU_LIVE_HELPERS_H

#include <linux/spinlock_types.h>
#include <linux/types.h>

struct device;
struct iommu_live_grace;
struct kobj_attribute;
struct kobject;
struct list_head;
struct mutex;
struct workqueue_struct;

void iommu_live_bh_disable(void);
void iommu_live_bh_enable(void);
int iommu_live_cleaner_create(void);
void iommu_live_cleaner_destroy(void);
void iommu_live_cleaner_kick(void);
struct workqueue_struct *iommu_live_cleaner_queue(void);
void iommu_live_cond_resched(void);
void iommu_live_count_strict_entry(void);
u64 iommu_live_strict_entries(void);
void iommu_live_current_comm(char *buf);
uid_t iommu_live_current_login_uid(void);
u64 iommu_live_current_started_ns(void);
pid_t iommu_live_current_tgid(void);
uid_t iommu_live_current_uid(void);
bool iommu_live_dev_is_untrusted(struct device *dev);
struct iommu_live_grace *iommu_live_grace_alloc(void);
void iommu_live_grace_begin(struct iommu_live_grace *grace, bool tasks);
void iommu_live_grace_free(struct iommu_live_grace *grace);
bool iommu_live_grace_over(struct iommu_live_grace *grace);
void iommu_live_keeps(const void *memory);
void iommu_live_list_move(struct list_head *from, struct list_head *to);
bool iommu_live_lock_is_free(spinlock_t *lock);
bool iommu_live_may_report_denied(void);
bool iommu_live_module_get(void);
void iommu_live_module_put(void);
int iommu_live_mutex_lock_killable(struct mutex *lock);
bool iommu_live_mutex_trylock(struct mutex *lock);
void iommu_live_nap(unsigned int ms);
int iommu_live_next_possible_cpu(int cpu);
void *iommu_live_per_cpu_ptr(void __percpu *ptr, int cpu);
u64 iommu_live_run_delay(void);
void iommu_live_set_show(struct kobj_attribute *attribute,
			 ssize_t (*show)(struct kobject *,
					 struct kobj_attribute *, char *));
unsigned long iommu_live_spin_lock(spinlock_t *lock);
void iommu_live_spin_unlock(spinlock_t *lock, unsigned long flags);
void iommu_live_unwatch_devices(void);
void iommu_live_warn(const char *what, int group);
int iommu_live_watch_devices(void);

/* In Rust. */
void iommu_live_clean(void);
void iommu_live_device_removed(struct device *dev);

#endif
