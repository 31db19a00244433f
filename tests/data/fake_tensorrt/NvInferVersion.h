#pragma once

// Which release is pretended: 8 for the interface up to 9, 10 for the one since.
#ifndef FAKE_MAJOR
#define FAKE_MAJOR 10
#endif
#define NV_TENSORRT_MAJOR FAKE_MAJOR
#define NV_TENSORRT_VERSION (FAKE_MAJOR < 10 ? FAKE_MAJOR * 1000 : FAKE_MAJOR * 10000)
