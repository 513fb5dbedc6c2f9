/*
 * kernel_features.h - the names of everything in which one Linux version differs from another.
 *
 * Owns: the list, and the one of kernel configuration (FAKESYSFS_CONFIGS). A kernel profile
 * (kernels/NAME.toml) is a set of these names; C code tests has(m, F_NAME) and never a version.
 * Does not own: which kernel has which (that is data).
 */
#ifndef FAKESYSFS_FEATURES_H
#define FAKESYSFS_FEATURES_H

/* clang-format off */
#define FAKESYSFS_FEATURES(X) \
    X(auto_online_four_words)       /* auto_online_blocks knows online_kernel, online_movable */   \
    X(state_parse_first)            /* `state` is parsed before the hotplug lock is taken */       \
    X(kstrtobool_true_false)        /* tTfF are booleans */                                        \
    X(kstrtobool_enable_disable)    /* eEdD are booleans */                                        \
    X(removable_const)              /* `removable` is always 1 */                                  \
    X(valid_zones_cached)           /* an online block's zone is remembered, not computed */       \
    X(offline_holes_einval)         /* a block with a hole cannot go offline: EINVAL */            \
    X(section_count_check)          /* a block that lacks sections cannot go offline: EINVAL */    \
    X(pages_correctly_probed)       /* sections are looked at before onlining: EBUSY */            \
    X(online_poisoned_ehwpoison)    /* a block with poisoned pages cannot go online */             \
    X(online_order0)                /* onlining frees single pages, not the largest chunks */      \
    X(online_isolated)              /* pageblocks are isolated while they go online */             \
    X(isolate_bit)                  /* isolation is a bit beside the migratetype */                \
    X(fresh_at_tail)                /* fresh pages join free lists at the tail */                  \
    X(pageoffline_init)             /* until onlined, pages are PageOffline, not reserved */       \
    X(online_refusal_shrinks_span)  /* a refused online gives the zone its old span back */        \
    X(span_shrink_at_offline)       /* zone spans shrink at offline, not at remove */              \
    X(cancel_offline_always)        /* CANCEL_OFFLINE is sent also when isolation failed */        \
    X(pcp_disabled_offline)         /* per-CPU lists stay off while a block goes offline */        \
    X(dump_refcount)                /* page dumps say `refcount:`, not `count:` */                 \
    X(dump_pfn)                     /* ... and end with `pfn:`, with no address of struct page */  \
    X(dump_page_type)               /* ... and have a line `page_type:` */                         \
    X(dump_folio)                   /* ... for pages with a type; `page: ` without an address */   \
    X(isolate_first_last)           /* isolation starts with the first and the last pageblock */   \
    X(virtio_mem)                   /* there is a driver for virtio-mem */                         \
    X(virtio_mem_big_blocks)        /* ... for devices with blocks larger than memory blocks */    \
    X(virtio_mem_movable_first)     /* it unplugs Movable blocks before those of other zones */    \
    X(virtio_mem_pageblock_unit)    /* its unit is a pageblock, not a largest free chunk */        \
    X(virtio_mem_removes_later)     /* an unplugged block that is still online is tried again */   \
    X(pageoffline_skipped)          /* PageOffline pages pass isolation */                         \
    X(offlined_pages_info)          /* `Offlined Pages N` is visible in the log */                 \
    X(fallback_order_line)          /* `Fallback order for Node N` before `Built N zonelists` */   \
    X(fallback_skips_memoryless)    /* ... which does not name a node without memory */            \
    X(demotion_targets_line)        /* `Demotion targets for Node N` at first and last memory */   \
    X(migrate_newline)              /* `migrating pfn` ends its line before the dump */            \
    X(migrate_ratelimit)            /* migration failures are rate limited */                      \
    X(remove_online_ebusy)          /* removing online memory is EBUSY */                          \
    X(resource_busy_only)           /* only busy resources conflict with new memory */             \
    X(mem_limit_e2big)              /* mem= limits hot-added memory at run time */                 \
    X(range_warn)                   /* memory beyond the address limit warns, E2BIG */             \
    X(range_check)                  /* the pluggable range is checked: E2BIG, ranges logged */     \
    X(add_skips_existing)           /* sections that are there already are passed over */          \
    X(block_devices_after_add)      /* block devices are made after all sections of a range */     \
    X(node_before_blocks)           /* a new node's device comes before its blocks' */             \
    X(memmap_on_memory)             /* module parameter memmap_on_memory */                        \
    X(memmap_on_memory_force)       /* ... which may be `force` */                                 \
    X(memmap_on_memory_altmap)      /* ... and works per block for any size */                     \
    X(online_policy)                /* online_policy, auto_movable_* parameters */                 \
    X(memory_groups)                /* memory groups of DIMMs and devices */                       \
    X(has_generic_initiator)        /* node/has_generic_initiator */                               \
    X(crash_hotplug)                /* memory/crash_hotplug (with CRASH_HOTPLUG) */                \
    X(crash_hotplug_by_image)       /* ... which is 0 while no crash kernel is loaded */           \
    X(node_reclaim)                 /* nodeN/reclaim */                                            \
    X(node_memory_failure)          /* nodeN/memory_failure/ (with MEMORY_FAILURE) */              \
    X(node_hugepages_always)        /* nodeN/hugepages/ exists also without memory */              \
    X(cpu_maps_sized)               /* nodeN/cpulist and cpumap are binary, with a size */         \
    X(min_free_cap_256m)            /* min_free_kbytes is capped at 262144, not 65536 */           \
    X(khugepaged_min_free)          /* khugepaged raises min_free_kbytes at hotplug */             \
    X(movable_wmark_separate)       /* Movable has its own small watermark, outside the sum */     \
    X(bare_metal_2g_blocks)         /* 2 GiB blocks on bare metal from 64 GiB on */                \
    X(uevent_show_lock)             /* reading `uevent` takes the device lock */                   \
    X(uevent_store_status)          /* a refused synthetic event logs its errno */                 \
    X(prepare_online_notifier)      /* PREPARE_ONLINE and FINISH_OFFLINE */                        \
    X(node_notifier)                /* a notifier chain of its own for nodes */                    \
    X(normal_memory_mask)           /* N_NORMAL_MEMORY follows hotplug */                          \
    X(soft_offline_poisoned_ok)     /* soft offlining a poisoned page succeeds */                  \
    X(soft_offline_online_check)    /* soft offlining a page of an offline section is EIO */       \
    X(soft_offline_capital)         /* its message starts `Soft offline: 0x...: ` */               \
    X(soft_offline_function)        /* its message starts `soft_offline_page: 0x... ` */           \
    X(hard_offline_ehwpoison)       /* hard offlining a poisoned page is EHWPOISON */              \
    X(hard_offline_action_line)     /* ... with a `recovery action` line instead */                \
    X(hard_offline_get_page)        /* a page that cannot be handled is a `get hwpoison page` */   \
    X(hard_offline_no_page)         /* hard offlining without struct page is ignored: EBUSY */     \
    X(poison_kept_per_block)        /* the poisoned pages of a block are counted with it */        \
    X(inject_signed)                /* debugfs error files take negative numbers */                \
    X(acpi_rescan_all)              /* a device check tries every DIMM that failed before again */ \
    X(acpi_add_failure_status)      /* _OST tells that no handler took the DIMM */                 \
    X(acpi_device_no_power)         /* devices of bus/acpi have no directory power/ */             \
    X(unknown_nid_once)             /* memory of no known node: `Unknown online node`, once */     \
    X(meminfo_zswap)                /* Zswap, Zswapped (with ZSWAP) */                             \
    X(meminfo_kreclaimable)         /* KReclaimable */                                             \
    X(meminfo_percpu)               /* Percpu */                                                   \
    X(meminfo_secpagetables)        /* SecPageTables */                                            \
    X(meminfo_filehuge)             /* FileHugePages, FilePmdMapped */                             \
    X(meminfo_unaccepted)           /* Unaccepted (with UNACCEPTED_MEMORY) */                      \
    X(meminfo_balloon)              /* Balloon */                                                  \
    X(node_swapcached)              /* SwapCached in nodeN/meminfo */                              \
    X(zoneinfo_boost)               /* boost below pages free */                                   \
    X(zoneinfo_promo)               /* promo above high */                                         \
    X(zoneinfo_cma)                 /* cma below managed */                                        \
    X(vmstat_memmap)                /* nr_memmap_pages and its kin */                              \
    X(vmstat_pgdemote_node)         /* pgdemote_* are node counters */                             \
    X(vmstat_khugepaged)            /* pgsteal_khugepaged and its kin */                           \
    X(vmstat_throttled)             /* nr_throttled_written */                                     \
    X(vmstat_promote)               /* pgpromote_* (with NUMA_BALANCING) */                        \
    X(vmstat_swapcached)            /* nr_swapcached */                                            \
    X(vmstat_scan_anon)             /* pgscan_anon and its kin */                                  \
    X(vmstat_foll_pin)              /* nr_foll_pin_* */                                            \
    X(vmstat_workingset_split)      /* workingset_* split into anon and file */                    \
    X(vmstat_thp_swpin)             /* swpin_zero, swpout_zero instead of ksm/cow lines */         \
    X(iomem_ecam)                   /* `PCI ECAM` instead of `PCI MMCONFIG` */                     \
    X(iomem_local_apic)             /* `Local APIC` in /proc/iomem */                              \
    X(vmstat_kernel_stack_node)     /* nr_kernel_stack is a node counter, not a zone counter */    \
    X(vmstat_page_table_node)       /* nr_page_table_pages is a node counter, no zone counter */   \
    X(vmstat_unstable_last)         /* nr_unstable is a last line without meaning */               \
    X(vmstat_pgreuse)               /* pgreuse */                                                  \
    X(vmstat_thp_migration)         /* thp_migration_success and its kin */                        \
    X(vmstat_thp_charge)            /* thp_fault_fallback_charge, thp_file_fallback, ..._charge */ \
    X(vmstat_thp_scan_exceed)       /* thp_scan_exceed_*_pte */                                    \
    X(vmstat_thp_underused)         /* thp_underused_split_page */                                 \
    X(vmstat_direct_map_splits)     /* direct_map_level2_splits, ...3_splits (x86_64) */           \
    X(vmstat_direct_map_collapses)  /* direct_map_level2_collapses, ...3_collapses (x86_64) */     \
    X(vmstat_cma_alloc)             /* cma_alloc_success, cma_alloc_fail (with CMA) */             \
    X(vmstat_pgdemote)              /* pgdemote_* exist, as events unless vmstat_pgdemote_node */  \
    X(vmstat_ksm)                   /* ksm_swpin_copy, cow_ksm (with KSM) */                       \
    X(vmstat_zswap)                 /* zswpin, zswpout (with ZSWAP) */                             \
    X(vmstat_zswpwb)                /* zswpwb (with ZSWAP) */                                      \
    X(vmstat_device_zone)           /* pgalloc_device and its kin (with ZONE_DEVICE) */            \
    X(vmstat_zone_reclaim_success)  /* zone_reclaim_success */                                     \
    X(vmstat_proactive)             /* pgsteal_proactive, pgscan_proactive, pgdemote_proactive */  \
    X(vmstat_free_blocks)           /* nr_free_pages_blocks */                                     \
    X(vmstat_no_bounce)             /* nr_bounce is gone */                                        \
    X(vmstat_no_writeback_temp)     /* nr_writeback_temp is gone */                                \
    X(vmstat_hugetlb)               /* nr_hugetlb (with HUGETLB_PAGE) */                           \
    X(vmstat_balloon)               /* nr_balloon_pages */                                         \
    X(vmstat_kernel_file)           /* nr_kernel_file_pages */                                     \
    X(vmstat_iommu)                 /* nr_iommu_pages (built with IOMMU_SUPPORT) */                \
    X(vmstat_promote_nrl)           /* pgpromote_candidate_nrl (with NUMA_BALANCING) */            \
    X(vmstat_reclaim_node)          /* pgsteal_*, pgscan_*, pgrefill are node counters */          \
    X(vmstat_vmalloc)               /* nr_vmalloc */                                               \
    X(vmstat_pgrotate)              /* pgrotate_anon, pgrotate_file */                             \
    X(vmstat_nrswp)                 /* nrswpin, nrswpout */                                        \
    X(meminfo_gpu)                  /* GPUActive, GPUReclaim; nr_gpu_active, nr_gpu_reclaim */     \
    X(node_balloon)                 /* Balloon in nodeN/meminfo */                                 \
    X(node_filehuge_aligned)        /* FileHugePages, FilePmdMapped of nodeN are aligned */        \
    X(zoneinfo_pcp_by_zone)         /* per-CPU lists follow the low watermark, not 6 batches */    \
    X(zoneinfo_pcp_auto)            /* ... and grow from nothing as they are used */               \
    X(zoneinfo_pcp_limits)          /* high_min and high_max in pagesets */                        \
    X(zoneinfo_highatomic)          /* reserved_highatomic, free_highatomic below start_pfn */     \
    X(pagetypeinfo_capped)          /* counts of free chunks end at `>100000` */                   \
    X(hugetlb_demote)               /* demote and demote_size of gigantic pages */                 \
    X(reserve_low_1m)               /* the whole first MiB is reserved at boot */                  \
    X(arm64_small_sections)         /* sections of arm64 are 128 MiB, not 1 GiB */                 \
    X(arm64_numa_memblks)           /* arm64 knows the node of memory by its address */            \
    X(s390_small_sections)          /* sections of s390 are 128 MiB, not 256 MiB */                \
    X(s390_configured_memory)       /* s390 adds standby memory when it is configured */
/* clang-format on */

enum feature {
#define X(name) F_##name,
    FAKESYSFS_FEATURES(X)
#undef X
        NR_FEATURES
};

/* Kernel configuration where it matters: (name, default). Booleans are 0 or 1; NR_CPUS is a
 * number. Not Kconfig, but set there as well: STEP_DELAY_US, KERNEL_USE_AFTER (0: never). */
#define FAKESYSFS_CONFIGS(X)            \
    X(ARCH_MEMORY_PROBE, 1)             \
    X(MEMORY_FAILURE, 1)                \
    X(MEMORY_NOTIFIER_ERROR_INJECT, 1)  \
    X(MEMORY_HOTPLUG_DEFAULT_ONLINE, 0) \
    X(MEMORY_HOTREMOVE, 1)              \
    X(FIRMWARE_MEMMAP, 1)               \
    X(MODULES, 1)                       \
    X(X86_SGX, 1)                       \
    X(CRASH_HOTPLUG, 0)                 \
    X(COMPACTION, 1)                    \
    X(NUMA, 1)                          \
    X(ZONE_DEVICE, 1)                   \
    X(HUGETLB_PAGE, 1)                  \
    X(TRANSPARENT_HUGEPAGE, 1)          \
    X(CMA, 0)                           \
    X(ZSWAP, 0)                         \
    X(ZSMALLOC, 1)                      \
    X(NUMA_BALANCING, 1)                \
    X(MEMORY_BALLOON, 1)                \
    X(KSM, 1)                           \
    X(UNACCEPTED_MEMORY, 0)             \
    X(IOMMU_SUPPORT, 1)                 \
    X(HYPERVISOR, 1)                    \
    X(STEP_DELAY_US, 0)                 \
    X(KERNEL_USE_AFTER, 0)              \
    X(NR_CPUS, 8192)

enum config {
#define X(name, dflt) CONFIG_##name,
    FAKESYSFS_CONFIGS(X)
#undef X
        NR_CONFIGS
};

#endif
