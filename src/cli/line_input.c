// Implements line_input.h on libedit.
#include "cli/line_input.h"

#include "base/buf.h"
#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

enum { MAX_HISTORY = 1000, CONTROL_D = 4 };

struct line_input {
    EditLine *editor; // NULL: not interactive
    History *history;
    char *history_path; // NULL: nowhere to keep it
    const char *prompt;
    int bell;
    bool interrupted;
    int n_ahead;     // bytes typed before the editor took the terminal over, still to be read
    mbstate_t half;  // of a character
    char *line;      // the latest
    size_t capacity; // getline's, when not interactive
};

// ---- history -----------------------------------------------------------------------------------------------------

// Where the history is kept (XDG Base Directory Specification 0.8: a relative path there counts as unset), its folder
// made. NULL if there is no such place.
static char *find_history_path(void) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    buf path = {0};
    if (state && *state == '/')
        buf_printf(&path, "%s/rocmforge", state);
    else if (home && *home == '/')
        buf_printf(&path, "%s/.local/state/rocmforge", home);
    else
        return NULL;
    for (char *slash = path.data + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        mkdir(path.data, 0700);
    }
    if (mkdir(path.data, 0700) != 0 && errno != EEXIST) return free(buf_take(&path)), NULL;
    buf_append_str(&path, "/chat_history");
    return buf_take(&path);
}

// Written anew beside the old one, which it then replaces: a history is never half there.
static void save_history(line_input *in) {
    if (!in->history_path) return;
    buf next = {0};
    buf_printf(&next, "%s.%d", in->history_path, (int)getpid());
    int fd = open(next.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    HistEvent event;
    bool ok = f && history(in->history, &event, H_SAVE_FP, f) >= 0;
    if (f) ok = fclose(f) == 0 && ok;
    if (!ok || rename(next.data, in->history_path) != 0) unlink(next.data);
    buf_free(&next);
}

static void remember(line_input *in, const char *line) {
    HistEvent event;
    if (strspn(line, " \t\n") == strlen(line)) return;
    history(in->history, &event, H_ENTER, line);
    save_history(in);
}

// ---- the editor --------------------------------------------------------------------------------------------------

static char *get_prompt(EditLine *editor) {
    line_input *in;
    el_get(editor, EL_CLIENTDATA, &in);
    return (char *)in->prompt;
}

// Takes the terminal over before the prompt is shown. While an answer comes it is in its own line mode.
static void begin_line(line_input *in) {
    in->interrupted = false;
    in->half = (mbstate_t){0};
    el_resize(in->editor);
    el_set(in->editor, EL_PREP_TERM, 1);
    if (ioctl(STDIN_FILENO, FIONREAD, &in->n_ahead) != 0) in->n_ahead = 0;
}

// The editor's next character: 1, 0 at the end, -1 when the bell rings.
static int get_char(EditLine *editor, wchar_t *c) {
    line_input *in;
    el_get(editor, EL_CLIENTDATA, &in);
    for (;;) {
        struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = in->bell, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0 && errno == EINTR) continue;
        if (fds[1].revents) return in->interrupted = true, -1;
        char byte;
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        if (in->n_ahead > 0 && in->n_ahead-- && !byte) byte = CONTROL_D; // what line mode left in its place
        size_t used = mbrtowc(c, &byte, 1, &in->half);
        if (used == (size_t)-2) continue;
        if (used == (size_t)-1) in->half = (mbstate_t){0}, *c = 0xfffd;
        return 1;
    }
}

static void open_editor(line_input *in) {
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0) setlocale(LC_CTYPE, "C.UTF-8"); // a model reads nothing else
    in->editor = el_init("rocmforge", stdin, stdout, stderr);
    if (!in->editor) return;
    in->history = history_init();
    check(in->history);
    HistEvent event;
    history(in->history, &event, H_SETSIZE, MAX_HISTORY);
    history(in->history, &event, H_SETUNIQUE, 1);
    in->history_path = find_history_path();
    if (in->history_path) history(in->history, &event, H_LOAD, in->history_path);
    el_set(in->editor, EL_CLIENTDATA, in);
    el_set(in->editor, EL_PROMPT, get_prompt);
    el_set(in->editor, EL_GETCFN, get_char);
    el_set(in->editor, EL_EDITOR, "emacs");
    el_set(in->editor, EL_HIST, history, in->history);
    el_source(in->editor, NULL); // ~/.editrc has the last word
}

static line_result edit_line(line_input *in, const char **line, size_t *n_bytes) {
    int n = 0;
    begin_line(in);
    const char *typed = el_gets(in->editor, &n);
    if (typed && n > 0) {
        remember(in, typed);
        free(in->line);
        *line = in->line = xstrdup(typed);
        *n_bytes = strcspn(in->line, "\n");
        in->line[*n_bytes] = 0;
        return LINE_READ;
    }
    fputc('\n', stdout); // the line that was left is not written over
    fflush(stdout);
    return in->interrupted ? LINE_INTERRUPTED : LINE_END;
}

// ---- both --------------------------------------------------------------------------------------------------------

line_input *line_input_new(const char *prompt, int bell) {
    line_input *in = xcalloc(1, sizeof *in);
    in->prompt = prompt;
    in->bell = bell;
    if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) open_editor(in);
    return in;
}

void line_input_free(line_input *in) {
    if (in->editor) el_end(in->editor);
    if (in->history) history_end(in->history);
    free(in->history_path);
    free(in->line);
    free(in);
}

bool line_input_is_interactive(const line_input *in) { return in->editor != NULL; }

line_result line_input_read(line_input *in, const char **line, size_t *n_bytes) {
    if (in->editor) return edit_line(in, line, n_bytes);
    ssize_t n = getline(&in->line, &in->capacity, stdin);
    if (n < 0) return LINE_END;
    while (n > 0 && (in->line[n - 1] == '\n' || in->line[n - 1] == '\r')) in->line[--n] = 0;
    *line = in->line, *n_bytes = (size_t)n;
    return LINE_READ;
}
