/*
 * The first process of a Windows pod: it waits until the container is stopped. On Windows there is nothing to reap.
 *
 * Of Windows it needs kernel32 alone, and no C runtime.
 */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#ifndef VERSION
#define VERSION "HEAD"
#endif

/* The size of a string literal includes its terminating null character. */
#define PRINT(stream, text) print(stream, text, sizeof(text) - 1)

static BOOL print(DWORD stream, const char *text, DWORD length) {
    DWORD written;
    return WriteFile(GetStdHandle(stream), text, length, &written, NULL) && written == length;
}

static BOOL is_blank(WCHAR letter) {
    return letter == ' ' || letter == '\t';
}

/* A process gets one line: words separated by blanks, unless these are between double quotes. The first is its name. */
static BOOL wants_version(const WCHAR *at) {
    for (BOOL is_name = TRUE; *at; is_name = FALSE) {
        WCHAR first = 0, second = 0;
        int length = 0;
        for (BOOL is_quoted = FALSE; *at && (is_quoted || !is_blank(*at)); at++) {
            if (*at == '"') {
                is_quoted = !is_quoted;
                continue;
            }
            if (length == 0)
                first = *at;
            if (length == 1)
                second = *at;
            length++;
        }
        if (!is_name && length == 2 && first == '-' && (second == 'v' || second == 'V'))
            return TRUE;
        while (is_blank(*at))
            at++;
    }
    return FALSE;
}

/*
 * Ctrl-C, Ctrl-Break, and what Windows sends before it ends a process: CTRL_SHUTDOWN_EVENT when a container is stopped,
 * CTRL_CLOSE_EVENT and CTRL_LOGOFF_EVENT. If this returned, the exit status would be another one.
 */
static BOOL WINAPI end(DWORD event) {
    if (event == CTRL_C_EVENT || event == CTRL_BREAK_EVENT)
        PRINT(STD_ERROR_HANDLE, "Shutting down, got signal: Interrupt\n");
    else
        PRINT(STD_ERROR_HANDLE, "Shutting down, got signal: Terminated\n");
    ExitProcess(0);
}

/* The entry point that linkers choose by default. */
void mainCRTStartup(void) {
    if (wants_version(GetCommandLineW()))
        ExitProcess(!PRINT(STD_OUTPUT_HANDLE, "pause.c " VERSION "\n"));

    /* Whoever starts it may ignore Ctrl-C, which is inherited. */
    SetConsoleCtrlHandler(NULL, FALSE);
    if (!SetConsoleCtrlHandler(end, TRUE)) {
        PRINT(STD_ERROR_HANDLE, "Error: the handler of console events can't be set\n");
        ExitProcess(1);
    }
    Sleep(INFINITE);
}
