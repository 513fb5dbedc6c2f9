/*
 * machine.c - a machine from its configuration, and its end.
 *
 * Owns: the order in which the parts are made: constants, nodes, address space, boot memory,
 * policies, load, tree. Does not own: any of the parts. Threading: creation and destruction are the
 * caller's alone; see lock.c for locks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

static int set_constants(struct machine *m, const struct machine_config *config)
{
    memcpy(m->feature, config->features, sizeof m->feature);
    memcpy(m->config, config->config, sizeof m->config);
    m->cmdline = xstrdup(m, config->cmdline != NULL ? config->cmdline : "");
    strncpy(m->release, config->release != NULL ? config->release : "", sizeof m->release - 1);
    trace_graph_load(m, config->callgraphs != NULL ? config->callgraphs : "");
    m->seed = m->random_state = config->seed;
    m->page_shift = config->page_shift;
    m->section_page_shift = config->section_shift - config->page_shift;
    m->max_order = config->max_order;
    m->pageblock_order = config->pageblock_order;
    m->struct_page_bytes = config->struct_page_bytes;
    m->page_bytes = 1ull << m->page_shift;
    m->pages_per_section = 1ull << m->section_page_shift;
    m->pageblock_pages = 1ull << m->pageblock_order;
    m->block_bytes = config->block_bytes;
    m->block_pages = m->block_bytes >> m->page_shift;
    m->sections_per_block = (unsigned)(m->block_bytes >> config->section_shift);
    m->pageblocks_per_section = (unsigned)(m->pages_per_section >> m->pageblock_order);
    m->chunks_per_section = (unsigned)(m->pages_per_section >> m->max_order);
    m->max_phys_bits = config->max_phys_bits;
    m->iomem_bits = config->iomem_bits;
    m->swap_bytes = config->swap_bytes;
    m->percpu_kb = config->percpu_kb;
    m->vmalloc_kb = config->vmalloc_kb;
    m->mem_limit = config->mem_limit;
    m->increment_bytes = config->increment_bytes;
    m->nr_acpi_slots = config->acpi_slots;
    m->not_x86 = config->not_x86;
    m->zone_exists[ZONE_DMA] = config->zone_dma;
    m->zone_exists[ZONE_DMA32] = config->zone_dma32;
    m->zone_exists[ZONE_NORMAL] = m->zone_exists[ZONE_MOVABLE] = true;
    m->zone_exists[ZONE_DEVICE] = configured(m, CONFIG_ZONE_DEVICE);
    m->dma_end_pfn = config->dma_end >> m->page_shift;
    m->dma32_end_pfn = config->dma32_end >> m->page_shift;
    if (config->section_shift <= config->page_shift || m->section_page_shift > 20 ||
        m->max_order >= MAX_ORDERS || m->pageblock_order > m->max_order ||
        m->max_order > m->section_page_shift)
        return fail(m, -EINVAL,
                    "sections of 2^%u bytes, pages of 2^%u and order %u do not fit together",
                    config->section_shift, config->page_shift, m->max_order);
    if (m->block_bytes == 0 || (m->block_bytes & (m->block_bytes - 1)) != 0 ||
        m->sections_per_block == 0)
        return fail(m, -EINVAL, "a block size of 0x%llx is no power of two of at least a section",
                    (unsigned long long)m->block_bytes);
    return 0;
}

static int set_nodes(struct machine *m, const struct machine_config *config)
{
    if (config->possible_nodes == 0 || config->possible_nodes > MAX_NODES)
        return fail(m, -EINVAL, "%u nodes: between 1 and %d are possible", config->possible_nodes,
                    MAX_NODES);
    m->possible_nodes = config->possible_nodes;
    for (unsigned nid = 0; nid < m->possible_nodes; nid++) {
        m->nodes[nid].nid = (int)nid;
        for (int type = 0; type < NR_ZONES; type++) {
            struct zone *z = &m->nodes[nid].zones[type];
            z->nid = (int16_t)nid;
            z->type = (enum zone_type)type;
            z->index = (int16_t)((int)nid * NR_ZONES + type);
            m->zones[z->index] = z;
        }
        for (unsigned other = 0; other < m->possible_nodes; other++)
            m->distance[nid][other] = config->distances != NULL
                                          ? config->distances[nid * m->possible_nodes + other]
                                      : nid == other ? 10
                                                     : 20;
    }
    for (size_t i = 0; i < config->nr_nodes; i++) {
        const struct boot_node *from = &config->nodes[i];
        if (from->nid < 0 || (unsigned)from->nid >= m->possible_nodes)
            return fail(m, -EINVAL, "node %d is not among the %u possible ones", from->nid,
                        m->possible_nodes);
        struct node *node = &m->nodes[from->nid];
        node->online = true;
        node->nr_cpus = from->nr_cpus;
        node->cpus = xcalloc(m, from->nr_cpus + 1, sizeof *node->cpus);
        if (from->nr_cpus != 0)
            memcpy(node->cpus, from->cpus, from->nr_cpus * sizeof *node->cpus);
    }
    for (size_t i = 0; i < config->nr_memory; i++)
        if (config->memory[i].nid < 0 || (unsigned)config->memory[i].nid >= m->possible_nodes ||
            config->memory[i].start >= config->memory[i].end)
            return fail(m, -EINVAL, "a range of memory at 0x%llx that is empty or of no node",
                        (unsigned long long)config->memory[i].start);
    m->nr_hotplug_nids = config->nr_hotplug_nids;
    m->hotplug_nids = xcalloc(m, config->nr_hotplug_nids + 1, sizeof *m->hotplug_nids);
    if (config->nr_hotplug_nids != 0)
        memcpy(m->hotplug_nids, config->hotplug_nids,
               config->nr_hotplug_nids * sizeof *m->hotplug_nids);
    return 0;
}

static void set_policies(struct machine *m, const struct machine_config *config)
{
    const char *word = config->memhp_default_state;
    int type = word != NULL && word[0] != '\0' ? online_type_from_word(word) : -1;

    m->auto_online = configured(m, CONFIG_MEMORY_HOTPLUG_DEFAULT_ONLINE) ? TYPE_ONLINE
                                                                         : TYPE_OFFLINE;
    if (type >= 0 && (type <= TYPE_ONLINE || has(m, F_auto_online_four_words)))
        m->auto_online = (enum online_type)type; /* other words are ignored, as the kernel does */
    m->movable_node = config->movable_node;
    m->auto_movable = config->online_policy != NULL &&
                      strcmp(config->online_policy, "auto-movable") == 0;
    m->auto_movable_ratio = config->auto_movable_ratio;
    m->auto_movable_numa_aware = config->auto_movable_numa_aware;
    m->memmap_on_memory = config->memmap_on_memory <= 2 ? config->memmap_on_memory : 0;
    m->drivers_autoprobe[0] = m->drivers_autoprobe[1] = true;
    m->user_min_free_kbytes = -1;
}

/* Linear mapping of boot memory: large pages where they fit, the crooked edges in small ones. */
static void set_direct_map(struct machine *m, const struct machine_config *config)
{
    uint64_t bytes = 0, crooked = 0;

    if (m->not_x86)
        return;
    for (size_t i = 0; i < config->nr_memory; i++) {
        uint64_t start = config->memory[i].start, end = config->memory[i].end;
        uint64_t giant_start = (start + (1ull << 30) - 1) >> 30 << 30, giant_end = end >> 30 << 30;
        bytes += end - start;
        crooked += (start & ((2ull << 20) - 1)) + (end & ((2ull << 20) - 1));
        if (start >= 1ull << 32 && giant_end > giant_start) {
            m->direct_map_1g += (giant_end - giant_start) >> 10;
            bytes -= giant_end - giant_start;
            for (uint64_t pfn = giant_start >> m->page_shift; pfn < giant_end >> m->page_shift;
                 pfn += m->pages_per_section)
                section_of(m, pfn)->state |= SECTION_GIANT;
        }
    }
    crooked += config->direct_map_4k_kb
               << 10; /* kernel text, and what has permissions of its own */
    crooked = crooked < bytes ? crooked : bytes;
    m->direct_map_4k = crooked >> 10;
    m->direct_map_2m = (bytes - crooked) >> 10;
}

static void register_tree(struct machine *m)
{
    memory_root_register(m);
    bus_memory_register(m);
    module_parameters_register(m);
    firmware_map_register(m);
    tracing_register(m);
    error_injection_register(m);
    node_register(m);
    procfs_register(m);
    hugepages_register(m);
    sysctl_register(m);
    acpi_register(m);
    standby_register(m);
}

/* About: what blocks and sections at boot take of the host. */
static uint64_t memory_needed(const struct machine_config *config)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < config->nr_memory; i++)
        bytes += config->memory[i].end - config->memory[i].start;
    return config->section_shift < 64 ? (bytes >> config->section_shift) * HOST_BYTES_OF_BLOCK : 0;
}

struct machine *machine_create(const struct machine_config *config, struct task *task)
{
    struct machine *m = calloc(1, sizeof *m);
    int err;

    if (m == NULL) {
        task->no_host_memory = true;
        return NULL;
    }
    lock_init(m);
    machine_lock(m, task);
    if ((err = host_memory_ready(m, memory_needed(config))) != 0 ||
        (err = set_constants(m, config)) != 0 || (err = set_nodes(m, config)) != 0 ||
        (err = boot_check_blocks(m, config)) != 0)
        goto failed;
    m->iomem.end = m->iomem_bits >= 64 ? UINT64_MAX : (1ull << m->iomem_bits) - 1;
    if ((err = resource_insert(m, config->resources, config->nr_resources)) != 0) {
        fail(m, err, "the ranges of /proc/iomem overlap");
        goto failed;
    }
    set_policies(m, config);
    vmem_driver_register(m);
    boot_memory(m, config);
    set_direct_map(m, config);
    if (!m->not_x86)
        klog(m, "x86/mm: Memory block size: %lluMB", (unsigned long long)(m->block_bytes >> 20));
    zone_update_watermarks(m);
    zone_build_zonelists(m, -1);
    for (size_t i = 0; i < config->nr_firmware; i++)
        firmware_map_add(m, config->firmware[i].start, config->firmware[i].end,
                         config->firmware[i].type);
    boot_offline_blocks(m, config);
    if ((err = load_boot(m, config)) != 0 || (err = standby_boot(m, config)) != 0)
        goto failed;
    register_tree(m);
    m->trace_on = true;
    machine_unlock(m);
    return m;

failed:
    machine_unlock(m);
    machine_destroy(m);
    return NULL;
}

struct machine *machine_reboot(struct machine *before, const struct machine_config *config,
                               struct task *task)
{
    struct machine *m = machine_create(config, task);

    if (m == NULL)
        return NULL;
    rules_end(before);
    machine_lock(before, task);
    m->handles_before = before->handles_before + (int64_t)before->nr_files;
    events_take_over(m, before);
    rules_take_over(m, before);
    machine_unlock(before);
    m->before = before;
    return m;
}

void machine_forget_before(struct machine *m)
{
    machine_destroy(m->before);
    m->before = NULL;
}

void machine_destroy(struct machine *m)
{
    if (m == NULL)
        return;
    machine_forget_before(m);
    sysfs_destroy(m);
    block_destroy_all(m);
    memmap_destroy_all(m);
    zone_destroy_all(m);
    sparse_destroy(m);
    resource_destroy(m);
    firmware_map_destroy(m);
    standby_destroy(m);
    radix_free(&m->bad_reserved);
    fault_destroy(m);
    host_memory_destroy(m);
    rules_destroy(m);
    events_destroy(m);
    klog_destroy(m);
    trace_destroy(m);
    trace_graph_destroy(m);
    for (unsigned nid = 0; nid < MAX_NODES; nid++)
        free(m->nodes[nid].cpus);
    free(m->hotplug_nids);
    free(m->cmdline);
    free(m->groups);
    free(m->dimms);
    vmem_destroy_all(m);
    lock_destroy(m);
    free(m);
}
