/*
 * trace_graph.c - the text of a traced operation: what the engine ran, and what a kernel calls
 * beside.
 *
 * Owns: the call graphs of the machine's kernel, how they are laid over the engine's calls, the
 * lines. Does not own: the calls (trace.c), where the graphs come from (the machine's
 * configuration).
 *
 * The graphs are text. A line is a name, with a space before it for each level; an empty line ends
 * a graph. "= NAME OTHER" says that this kernel calls OTHER what the engine calls NAME; "- NAME",
 * that it has no such function.
 */
#include <stdlib.h>
#include <string.h>

#include "base/trace_calls.h"
#include "machine.h"

enum { NONE = UINT32_MAX, HIDDEN = UINT32_MAX - 1, MAX_LEVELS = 100 };

struct graph_node {
    uint32_t id, parent, end; /* name; index, or NONE; index behind all below it */
    uint32_t level;
};

struct trace_graph {
    char *text; /* the names are in it */
    const char **names;
    bool *own; /* by id: the engine has this function */
    uint32_t nr_names, nr_nodes, nr_words;
    struct graph_node *nodes;
    struct trace_word {
        const char *ours, *theirs; /* NULL: this kernel has none */
    } *words;
};

/* The names that TRACE() gives. */
extern const char *const trace_sites_begin[] __asm__("__start_trace_sites")
    __attribute__((weak, visibility("hidden")));
extern const char *const trace_sites_end[] __asm__("__stop_trace_sites")
    __attribute__((weak, visibility("hidden")));

/* ---- the graphs ---- */

static uint32_t name_id(const struct trace_graph *g, const char *name)
{
    for (uint32_t id = 0; id < g->nr_names; id++)
        if (strcmp(g->names[id], name) == 0)
            return id;
    return NONE;
}

/* What this kernel calls a function of the engine; NULL: it has none. */
static const char *kernel_name(const struct trace_graph *g, const char *name)
{
    for (uint32_t i = 0; g != NULL && i < g->nr_words; i++)
        if (strcmp(g->words[i].ours, name) == 0)
            return g->words[i].theirs;
    return name;
}

static void load_word(struct trace_graph *g, char *line)
{
    struct trace_word *word = &g->words[g->nr_words++];
    char *rest;

    word->ours = strtok_r(line + 1, " ", &rest);
    word->theirs = line[0] == '=' ? strtok_r(NULL, " ", &rest) : NULL;
}

static void load_node(struct trace_graph *g, const char *line, uint32_t *open)
{
    uint32_t level = (uint32_t)strspn(line, " "), index = g->nr_nodes++;

    line += level;
    uint32_t id = name_id(g, line);
    if (id == NONE) {
        id = g->nr_names;
        g->names[g->nr_names++] = line;
    }
    g->nodes[index] = (struct graph_node){
        .id = id, .parent = level != 0 ? open[level - 1] : NONE, .end = index + 1, .level = level};
    open[level] = index;
    for (uint32_t above = g->nodes[index].parent; above != NONE; above = g->nodes[above].parent)
        g->nodes[above].end = index + 1;
}

static size_t nr_lines(const char *text)
{
    size_t nr = 1;

    for (; *text != '\0'; text++)
        nr += *text == '\n';
    return nr;
}

void trace_graph_load(struct machine *m, const char *text)
{
    struct trace_graph *g = xcalloc(m, 1, sizeof *g);
    size_t lines = nr_lines(text);
    uint32_t open[MAX_LEVELS] = {0};
    char *rest;

    m->trace_graph = g;
    g->text = xstrdup(m, text);
    g->names = xcalloc(m, lines, sizeof *g->names);
    g->own = xcalloc(m, lines, sizeof *g->own);
    g->nodes = xcalloc(m, lines, sizeof *g->nodes);
    g->words = xcalloc(m, lines, sizeof *g->words);
    for (char *line = strtok_r(g->text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (line[0] == '=' || line[0] == '-')
            load_word(g, line);
        else if (line[0] != '#' && strspn(line, " ") < MAX_LEVELS)
            load_node(g, line, open);
    }
    for (const char *const *site = trace_sites_begin; site < trace_sites_end; site++) {
        const char *name = kernel_name(g, *site);
        uint32_t id = name != NULL ? name_id(g, name) : NONE;
        if (id != NONE)
            g->own[id] = true;
    }
}

void trace_graph_destroy(struct machine *m)
{
    struct trace_graph *g = m->trace_graph;

    if (g == NULL)
        return;
    free(g->text);
    free(g->names);
    free(g->own);
    free(g->nodes);
    free(g->words);
    free(g);
}

/* ---- the graph is laid over the calls ---- */

struct line {
    const char *name;
    uint32_t level;
    const struct trace_call *call; /* NULL: not simulated */
};

struct overlay {
    const struct trace_graph *g;
    const struct trace_op *op;
    const uint32_t *ids; /* of the calls; NONE: the graphs do not have it */
    struct line *lines;
    size_t nr, cap, nr_matched;
    bool own; /* nothing is laid over */
    bool lost;
};

/* The nodes below one node, while calls are laid over them. */
struct frame {
    uint32_t first, end;  /* of the nodes */
    uint32_t next;        /* the first node that did not have its turn */
    uint32_t last;        /* the node of the call before; NONE */
    uint32_t level, base; /* of the lines; of the nodes */
    bool closed;          /* a call without a node came last */
};

static void add_line(struct overlay *o, const char *name, uint32_t level,
                     const struct trace_call *call)
{
    if (o->nr == o->cap) {
        size_t cap = o->cap != 0 ? 2 * o->cap : 256;
        struct line *lines = realloc(o->lines, cap * sizeof *lines);
        if (lines == NULL) {
            o->lost = true;
            return;
        }
        o->lines = lines;
        o->cap = cap;
    }
    o->lines[o->nr++] = (struct line){name, level, call};
}

static void add_node(struct overlay *o, const struct frame *f, uint32_t node)
{
    const struct graph_node *n = &o->g->nodes[node];

    add_line(o, o->g->names[n->id], f->level + n->level - f->base, NULL);
}

/* A function that the engine has, and that did not run here; what is called by one that the engine
 * does not have, and calls nothing, is not meant. */
static bool left_out(const struct trace_graph *g, const struct frame *f, uint32_t node)
{
    const struct graph_node *n = &g->nodes[node];
    bool below = n->parent != NONE && n->parent >= f->first && !g->own[g->nodes[n->parent].id];

    return g->own[n->id] && !(below && n->end == node + 1);
}

/* The lines of the nodes before `to`, and of those that call it, as far as they had no turn. */
static void add_until(struct overlay *o, struct frame *f, uint32_t to)
{
    const struct graph_node *nodes = o->g->nodes;

    for (uint32_t node = f->first; f->closed && node < f->next && node < to; node++)
        if (nodes[node].end > to && to < f->end)
            add_node(o, f, node); /* the calls around `to` were closed meanwhile */
    f->closed = false;
    for (uint32_t node = f->next; node < to;) {
        bool around = nodes[node].end > to && to < f->end;
        if (!around && left_out(o->g, f, node)) {
            node = nodes[node].end;
            continue;
        }
        add_node(o, f, node++);
    }
}

/* A node of this name from `from` on, below others that are not the engine's; or below any. */
static uint32_t find_node(const struct trace_graph *g, const struct frame *f, uint32_t from,
                          uint32_t id, bool below_any)
{
    for (uint32_t node = from; node < f->end;) {
        if (g->nodes[node].id == id)
            return node;
        node = g->own[g->nodes[node].id] && !below_any ? g->nodes[node].end : node + 1;
    }
    return NONE;
}

static uint32_t place_call(struct overlay *o, struct frame *f, uint32_t id)
{
    if (f->last != NONE && o->g->nodes[f->last].id == id)
        return f->last;
    uint32_t node = find_node(o->g, f, f->next, id, false);
    if (node == NONE)
        node = find_node(o->g, f, f->next, id, true);
    if (node == NONE && (node = find_node(o->g, f, f->first, id, false)) != NONE) {
        f->next = node; /* another round */
        f->closed = true;
    }
    if (node != NONE)
        add_until(o, f, node);
    return node;
}

static void lay_calls(struct overlay *o, struct frame *f, uint32_t first, uint32_t end);

static void lay_call(struct overlay *o, struct frame *f, uint32_t index)
{
    const struct trace_call *call = &o->op->calls[index];
    uint32_t id = o->own ? NONE : o->ids[index], node = id != NONE ? place_call(o, f, id) : NONE;
    uint32_t level = f->level;

    if (node != NONE) {
        o->nr_matched++;
        level += o->g->nodes[node].level - f->base;
        f->last = node;
        f->next = o->g->nodes[node].end;
    } else {
        f->last = NONE;
        f->closed = true;
        for (uint32_t i = 0; id != NONE && node == NONE && i < o->g->nr_nodes; i++)
            node = o->g->nodes[i].id == id ? i
                                           : NONE; /* called from elsewhere, it calls the same */
    }
    add_line(o, kernel_name(o->g, call->name), level, call);
    struct frame below = {.last = NONE, .level = level + 1};
    if (node != NONE) {
        below.first = below.next = node + 1;
        below.end = o->g->nodes[node].end;
        below.base = o->g->nodes[node].level + 1;
    }
    lay_calls(o, &below, index + 1, call->end);
    if (o->op->result == 0) /* else it is not known how far it came */
        add_until(o, &below, below.end);
}

static void lay_calls(struct overlay *o, struct frame *f, uint32_t first, uint32_t end)
{
    for (uint32_t index = first; index < end; index = o->op->calls[index].end)
        if (o->ids[index] == HIDDEN)
            lay_calls(o, f, index + 1, o->op->calls[index].end);
        else
            lay_call(o, f, index);
}

/* Lay one graph over the operation; without a graph: from `end` on. */
static struct overlay lay_graph(const struct trace_graph *g, const struct trace_op *op,
                                const uint32_t *ids, uint32_t first, uint32_t end, bool own)
{
    struct overlay o = {.g = g, .op = op, .ids = ids, .own = own};
    struct frame f = {.first = first, .next = first, .end = end, .last = NONE};

    lay_calls(&o, &f, 0, op->nr_calls);
    if (op->result == 0 && o.nr_matched != 0)
        add_until(&o, &f, end);
    return o;
}

/* The graph that has most of the calls where they were made; of those, the shortest text. */
static struct overlay lay_best(const struct trace_graph *g, const struct trace_op *op,
                               const uint32_t *ids)
{
    struct overlay best = lay_graph(g, op, ids, 0, 0, false);

    for (uint32_t first = 0; first < g->nr_nodes; first = g->nodes[first].end) {
        struct overlay o = lay_graph(g, op, ids, first, g->nodes[first].end, false);
        bool better = o.nr_matched > best.nr_matched;
        free(better ? best.lines : o.lines);
        if (better)
            best = o;
    }
    return best;
}

/* ---- lines ---- */

static void print_duration(struct text *out, const struct trace_call *call)
{
    if (call != NULL)
        text_printf(out, " 0) %7llu us    |  ",
                    (unsigned long long)(call->leave_us - call->enter_us));
    else
        text_printf(out, " 0)               |  ");
}

static void print_lines(const struct line *lines, size_t nr, struct text *out)
{
    size_t open[MAX_LEVELS], nr_open = 0;

    for (size_t i = 0; i <= nr; i++) {
        while (nr_open != 0 && (i == nr || lines[i].level <= lines[open[nr_open - 1]].level)) {
            const struct line *done = &lines[open[--nr_open]];
            print_duration(out, done->call);
            text_printf(out, "%*s}\n", (int)(2 * done->level), "");
        }
        if (i == nr)
            break;
        bool leaf = i + 1 == nr || lines[i + 1].level <= lines[i].level || nr_open == MAX_LEVELS;
        const struct trace_call *call = lines[i].call;
        print_duration(out, leaf ? call : NULL);
        text_printf(out, "%*s%s()%s", (int)(2 * lines[i].level), "", lines[i].name,
                    leaf ? ";" : " {");
        if (call == NULL)
            text_printf(out, " /* not simulated */");
        else if (call->times > 1)
            text_printf(out, " /* %u times */", call->times);
        text_printf(out, "\n");
        if (!leaf)
            open[nr_open++] = i;
    }
}

void trace_graph_print(struct machine *m, const struct trace_op *op, bool own, struct text *out)
{
    static const struct trace_graph empty;
    const struct trace_graph *g = m->trace_graph != NULL ? m->trace_graph : &empty;
    uint32_t *ids = calloc(op->nr_calls, sizeof *ids);

    if (ids == NULL) {
        out->lost = true;
        return;
    }
    for (uint32_t i = 0; i < op->nr_calls; i++) {
        const char *name = kernel_name(g, op->calls[i].name);
        ids[i] = name == NULL ? HIDDEN : name_id(g, name);
    }
    struct overlay o = own ? lay_graph(g, op, ids, 0, 0, true) : lay_best(g, op, ids);
    out->lost = out->lost || o.lost;
    print_lines(o.lines, o.nr, out);
    free(o.lines);
    free(ids);
}
