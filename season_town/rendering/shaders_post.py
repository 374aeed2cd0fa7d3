# SPDX-License-Identifier: Apache-2.0
"""GLSL sources of falling snow and rain, and of lens, exposure and film."""

from __future__ import annotations

from season_town.rendering.shaders import VERSION

FLAKE_VERTEX = (
    VERSION
    + """
uniform mat4 u_camera;
uniform vec3 u_eye, u_fall;
uniform float u_time, u_scale, u_streak;
in vec4 in_flake;
out float v_alpha;
const float BOX = 16.0;
void main() {
    vec3 drift = u_fall * u_time;
    drift.xy += 0.35 * sin(u_time * 1.7 + in_flake.xy * 40.0) * (1.0 - u_streak);
    vec3 world = (fract((in_flake.xyz * BOX + drift - u_eye) / BOX) - 0.5) * BOX + u_eye;
    world += in_flake.w * u_streak * vec3(0.02, 0.0, 0.45);
    gl_Position = u_camera * vec4(world, 1.0);
    float far = length(world - u_eye);
    gl_PointSize = max(u_scale * 0.018 / max(gl_Position.w, 0.3), 1.0);
    v_alpha = smoothstep(0.5, 1.2, far) * (1.0 - smoothstep(5.0, 8.0, far));
    v_alpha *= mix(0.8, 0.16, u_streak) * min(1.0, 6.0 / (far + 0.1));
}
"""
)

FLAKE_FRAGMENT = (
    VERSION
    + """
uniform vec3 u_flake;
uniform float u_streak;
in float v_alpha;
out vec4 f_colour;
void main() {
    vec2 q = gl_PointCoord * 2.0 - 1.0;
    float round = u_streak > 0.5 ? 1.0 : 1.0 - smoothstep(0.4, 1.0, dot(q, q));
    f_colour = vec4(u_flake, v_alpha * round);
}
"""
)

POST_VERTEX = (
    VERSION
    + """
in vec2 in_corner;
out vec2 v_uv;
void main() {
    v_uv = in_corner * 0.5 + 0.5;
    gl_Position = vec4(in_corner, 0.0, 1.0);
}
"""
)

# Writes the picture upside down: the first row read back is the top one.
POST_FRAGMENT = (
    VERSION
    + """
uniform sampler2D u_hdr;
uniform vec3 u_drops[24];
uniform int u_drop_count;
uniform float u_exposure, u_blur, u_bloom, u_vignette, u_aspect;
in vec2 v_uv;
out vec4 f_colour;

vec3 film(vec3 x) {
    x = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14);
    return pow(clamp(x, 0.0, 1.0), vec3(1.0 / 2.2));
}

void main() {
    vec2 uv = vec2(v_uv.x, 1.0 - v_uv.y);
    float lens = 0.0;
    for (int i = 0; i < u_drop_count; ++i) {
        vec2 to = (uv - u_drops[i].xy) * vec2(u_aspect, 0.8);
        float r = length(to) / u_drops[i].z;
        if (r < 1.0) { uv -= to * (1.0 + 2.5 * (1.0 - r * r)); lens = 1.0 - r * r * 0.5; }
    }
    vec3 colour = vec3(0.0);
    vec2 pull = (uv - vec2(0.5, 0.52)) * u_blur;
    for (int i = 0; i < 4; ++i)
        colour += textureLod(u_hdr, uv - pull * float(i) / 3.0, lens * 2.0).rgb;
    colour *= 0.25;
    vec3 bloom = vec3(0.0);
    for (int i = 3; i < 6; ++i) bloom += textureLod(u_hdr, uv, float(i)).rgb;
    colour = mix(colour, bloom / 3.0, u_bloom);
    vec2 q = v_uv - 0.5;
    colour *= u_exposure * (1.0 - u_vignette * dot(q, q));
    f_colour = vec4(film(colour), 1.0);
}
"""
)
