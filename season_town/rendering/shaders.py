# SPDX-License-Identifier: Apache-2.0
"""GLSL sources. World coordinates are the map frame; light is linear until the last pass."""

from __future__ import annotations

from season_town.textures.textures import CUTOUTS, FACADES, LAYER, SIGNS

VERSION = "#version 330\n"

# Uniforms every lit pass shares, and the light itself.
COMMON = """
uniform sampler2DArray u_tex;
uniform sampler2DShadow u_shadow;
uniform sampler2D u_light;
uniform mat4 u_shadow_matrix;
uniform vec3 u_eye, u_ahead;
uniform vec3 u_sun_direction, u_sun, u_ambient, u_zenith, u_horizon;
uniform float u_fog, u_snow, u_lamps, u_extent, u_cloud, u_time;

vec3 linear(vec3 c) { return c * c; }

float sunlight(vec3 world, vec3 normal) {
    vec4 p = u_shadow_matrix * vec4(world + normal * 0.12, 1.0);
    vec3 q = p.xyz * 0.5 + 0.5;
    if (abs(p.x) > 1.0 || abs(p.y) > 1.0) return 1.0;
    return texture(u_shadow, vec3(q.xy, q.z - 0.0006));
}

vec3 lamplight(vec3 world, vec3 normal) {
    if (u_lamps <= 0.0) return vec3(0.0);
    vec3 at = world + normal * 2.5;
    vec3 light = texture(u_light, at.xy / u_extent + 0.5).rgb;
    float up = mix(0.75, 1.0, max(normal.z, 0.0));
    float height = 1.0 - 0.92 * smoothstep(2.5, 7.0, world.z);
    vec3 to = world - u_eye + vec3(0.0, 0.0, 0.8);
    float far = length(to);
    float cone = smoothstep(0.80, 0.97, dot(to / far, normalize(u_ahead - vec3(0.0, 0.0, 0.05))));
    float face = 0.25 + 0.75 * max(dot(normal, -to / far), 0.0);
    vec3 beam = vec3(1.0, 0.93, 0.8) * cone * face * 14.0 / (10.0 + far * far * 0.12);
    return u_lamps * (1.1 * light * up * height + 0.8 * beam);
}

vec3 illuminate(vec3 albedo, vec3 world, vec3 normal, float soft) {
    float facing = max(mix(dot(normal, u_sun_direction), 0.75, soft * 0.45), 0.0);
    vec3 sun = facing > 0.0 ? u_sun * facing * sunlight(world, normal) : vec3(0.0);
    float sky = 0.55 + 0.45 * normal.z;
    float corner = mix(0.72, 1.0, smoothstep(0.0, 2.0, world.z + 2.0 * normal.z));
    vec3 bounce = 0.12 * (u_sun * max(u_sun_direction.z, 0.0) + u_ambient) * (0.7 - 0.3 * normal.z);
    return albedo * (sun + u_ambient * sky * corner + bounce + lamplight(world, normal));
}

vec3 fogged(vec3 colour, vec3 world) {
    float far = length(world - u_eye);
    return mix(u_horizon, colour, exp(-u_fog * far));
}

vec3 sky_gradient(vec3 ray) {
    return mix(u_horizon, u_zenith, pow(clamp(ray.z, 0.0, 1.0), 0.55));
}
"""

OBJECT_VERTEX = (
    VERSION
    + """
uniform mat4 u_camera;
in vec3 in_position;
in vec3 in_normal;
in vec3 in_texture;
in vec4 in_tint;
out vec3 v_world;
out vec3 v_normal;
out vec3 v_texture;
flat out vec4 v_flat;
out vec3 v_tint;
void main() {
    v_world = in_position;
    v_normal = in_normal;
    v_texture = in_texture;
    v_tint = in_tint.rgb;
    v_flat = in_tint;
    gl_Position = u_camera * vec4(in_position, 1.0);
}
"""
)

OBJECT_FRAGMENT = (
    VERSION
    + COMMON
    + f"""
const float FACADE_END = {len(FACADES) - 0.5};
const float CUTOUT_END = {len(FACADES) + len(CUTOUTS) - 0.5};
const float SIGN_START = {LAYER[SIGNS[0]] - 0.5};
const float LEAF = {LAYER["leaf"]}, NEEDLE = {LAYER["needle"]}, GLOW = {LAYER["glow"]};
const float BRANCH = {LAYER["branch"]}, NOISE = {LAYER["noise"]};
"""
    + """
uniform float u_lit_windows, u_drive, u_wet;
in vec3 v_world;
in vec3 v_normal;
in vec3 v_texture;
flat in vec4 v_flat;
in vec3 v_tint;
out vec4 f_colour;

void main() {
    float layer = v_texture.z;
    vec4 t = texture(u_tex, v_texture);
    bool cutout = (layer > FACADE_END && layer < CUTOUT_END) || layer > SIGN_START;
    if (cutout && t.a < (abs(layer - BRANCH) < 0.5 ? 0.5 : 0.38)) discard;
    float facade = layer < FACADE_END ? 1.0 : 0.0;
    float wall = mix(1.0, smoothstep(0.6, 0.9, t.a), facade);
    float glass = facade * (1.0 - smoothstep(0.1, 0.42, t.a));
    vec3 normal = normalize(v_normal);
    vec3 albedo = linear(t.rgb) * mix(vec3(1.0), linear(v_tint), wall);
    float leafy = (abs(layer - LEAF) < 0.5 || abs(layer - NEEDLE) < 0.5) ? 1.0 : 0.0;
    float twig = abs(layer - BRANCH) < 0.5 ? 1.0 : 0.0;

    float grime = texture(u_tex, vec3(v_world.xy * 0.11 + v_world.z * 0.07, NOISE)).g;
    albedo *= 0.82 + 0.36 * grime;
    albedo *= mix(1.0, 0.72, u_wet * wall * (1.0 - leafy));
    float cover = smoothstep(0.30, 0.62, normal.z + 0.55 * (grime - 0.5));
    cover = max(cover, leafy * 0.55 * smoothstep(0.45, 0.62, t.g) + twig * 0.2);
    float under = normal.z < -0.05 ? 0.0 : 1.0;
    albedo = mix(albedo, vec3(0.86, 0.89, 0.94), u_snow * cover * under * (1.0 - glass));

    vec3 colour = illuminate(albedo, v_world, normal, leafy + twig);
    if (glass > 0.01) {
        vec3 ray = reflect(normalize(v_world - u_eye), normal);
        colour += glass * 0.35 * sky_gradient(ray) * (0.4 + 0.6 * smoothstep(0.0, 0.3, ray.z));
        float lot = fract(sin(v_flat.a * 917.3 + u_drive * 3.71) * 4371.7);
        float lit = lot < u_lit_windows ? 1.0 : 0.0;
        vec3 warm = mix(vec3(1.0, 0.62, 0.25), vec3(0.9, 0.85, 0.65), fract(lot * 37.0));
        colour += glass * lit * warm * (0.35 + linear(t.rgb) * 2.2) * (0.25 + 0.6 * u_lamps);
    }
    if (abs(layer - GLOW) < 0.5) colour += v_tint * (0.15 + 9.0 * u_lamps);
    f_colour = vec4(fogged(colour, v_world), 1.0);
}
"""
)

SHADOW_VERTEX = (
    VERSION
    + """
uniform mat4 u_camera;
in vec3 in_position;
in vec3 in_texture;
out vec3 v_texture;
void main() {
    v_texture = in_texture;
    gl_Position = u_camera * vec4(in_position, 1.0);
}
"""
)

SHADOW_FRAGMENT = (
    VERSION
    + f"""
uniform sampler2DArray u_tex;
in vec3 v_texture;
const float FACADE_END = {len(FACADES) - 0.5};
const float CUTOUT_END = {len(FACADES) + len(CUTOUTS) - 0.5};
void main() {{
    bool cutout = v_texture.z > FACADE_END && v_texture.z < CUTOUT_END;
    if (cutout && texture(u_tex, v_texture).a < 0.4) discard;
}}
"""
)
